"""``task=compare``: systems trained alike, or finished runs, in one table; see docs/compare.md."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf, open_dict

from kemr_lightning.assembly.build import (
    DataModule,
    build_data,
    build_loggers,
    build_metric,
    logging_closed,
    store_of,
    whole_samples,
)
from kemr_lightning.assembly.data_folder import DataFolder
from kemr_lightning.assembly.device import device_of
from kemr_lightning.assembly.refiner import build_refiner
from kemr_lightning.assembly.schema.check import check_config
from kemr_lightning.assembly.settings import read_settings
from kemr_lightning.comparison.experiments import REFINING, compose_experiments, train_missing
from kemr_lightning.comparison.fairness import check_same_test, origins_of, warnings_for
from kemr_lightning.comparison.models import Models, times_of
from kemr_lightning.comparison.pictures import draw_cases, pairs_to_show
from kemr_lightning.comparison.report import Comparison, log_to_wandb, print_report, write_comparison
from kemr_lightning.comparison.runs import FinishedRun, read_run
from kemr_lightning.comparison.scores import score_systems
from kemr_lightning.comparison.settings import CompareSettings
from kemr_lightning.comparison.systems import System, baselines_of, systems_of
from kemr_lightning.core.contracts import MaskRefiner, Samples
from kemr_lightning.core.digests import remembered_digest
from kemr_lightning.core.distributed import is_first
from kemr_lightning.core.errors import UserError, settings_under
from kemr_lightning.core.overrides import is_one_of, key_of, shell_word
from kemr_lightning.core.run_directory import FIGURES
from kemr_lightning.core.targets import targets_in
from kemr_lightning.data.split import group_of
from kemr_lightning.metrics.segmentation import have_masks
from kemr_lightning.output.run_summary import print_summary
from kemr_lightning.tasks.start import start
from kemr_lightning.tasks.train import train
from kemr_lightning.training.module import SegmentationModule
from kemr_lightning.training.store import PredictionStore

logger = logging.getLogger(__name__)


def compare(config: DictConfig) -> None:
    """Train what is missing, and write the table and its pictures into the run directory.

    Args:
        config: The composed configuration. ``experiments`` are trained, or ``runs`` read; ``compare`` says how.

    Raises:
        UserError: The runs cannot be compared, or something in the configuration or the data has to be fixed.
    """
    if bool(config.experiments) == bool(config.runs):
        raise UserError("task=compare needs experiments=[NAME,...] to train or runs=[DIR,...] to read, one of the two")
    settings = _settings(config)
    if config.experiments:
        directory = start(config)
        trained = _trained(config, directory)
        if not is_first():
            return  # the trainings are every process's work, the table is one's
        runs = [read_run(path, _trusted(config)) for path in trained]
    else:
        runs = _given(config)
        directory = start(config)
    check_same_test(runs)
    systems = systems_of(runs, settings.cascade_from_kemr)
    models = Models(runs, FromConfigurations(config))
    comparison = _compared(config, systems, models, settings)
    for line in comparison.warnings:
        logger.warning("not alike: %s", line)
    write_comparison(comparison, directory)
    if have_masks(systems[0].records):
        pairs = pairs_to_show(systems, baselines_of(systems))
        draw_cases(pairs, settings, models.test_images, directory / FIGURES)
    with logging_closed():
        for each in build_loggers(config):
            if isinstance(each, WandbLogger):
                log_to_wandb(each.experiment, directory)
            each.finalize("success")
    print_report(comparison)
    print_summary(directory)


class FromConfigurations:
    """The `kemr_lightning.comparison.models.Workshop` of a comparison; it reads data once.

    Args:
        config: The composed configuration of the comparison, for the device and the stores.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.device = device_of(config)
        self._read: dict[str, DataModule] = {}

    def samples(self, config: DictConfig, part: Literal["val", "test"], label_names: list[str]) -> Samples:
        """Whole images of a run's data; a test takes all of a folder without parts."""
        stage = "test" if part == "test" and config.task.name != "train" else "fit"
        key = f"{stage} {label_names} {OmegaConf.to_yaml(config.data)}"
        if key not in self._read:
            self._read[key] = build_data(config, stage, label_names)
        if part == "test" and stage == "fit":
            self._read[key].setup("test")
        return whole_samples(self._read[key], part)

    def refiner(self, config: DictConfig, checkpoint: Path) -> MaskRefiner | None:
        """The refiner of a run."""
        return build_refiner(config, checkpoint)

    def store(self, module: SegmentationModule, checkpoint: Path) -> PredictionStore | None:
        """The store of a run's initial predictions."""
        return store_of(self.config, checkpoint, module)


def _settings(config: DictConfig) -> CompareSettings:
    metric = build_metric(config)
    names = ("ia_score", "ia_iou", "max_detections")
    more = {**{name: getattr(metric, name) for name in names}, "seed": int(config.seed)}
    return read_settings(config, "compare", CompareSettings, **more)


def _trained(config: DictConfig, directory: Path) -> list[Path]:
    """The run directories of the experiments, those trained that were not finished."""
    hydra_config = HydraConfig.get()

    def compose(overrides: list[str]) -> DictConfig:
        try:
            return hydra.compose(hydra_config.job.config_name, overrides)
        except HydraException as error:
            raise UserError(str(error)) from error

    names = [str(name) for name in config.experiments]
    trainings = compose_experiments(names, list(hydra_config.overrides.task), compose, directory)
    for training in trainings.values():
        check_config(training)
    try:
        with settings_under("", directory="hydra.run.dir"):
            train_missing(trainings, train)
    except KeyboardInterrupt:
        logger.warning("interrupted. The same command with %s resumes it", shell_word("hydra.run.dir", directory))
        raise
    return list(trainings)


def _trusted(config: DictConfig) -> set[str]:
    """What the command's own configuration names as ``_target_``: the user has chosen it."""
    return targets_in(OmegaConf.to_container(config, resolve=False))


def _given(config: DictConfig) -> list[FinishedRun]:
    """The finished runs, with their images in ``data.root``; without it they know best where their data are."""
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    for override in given:
        if is_one_of(key_of(override), REFINING):
            raise UserError(
                f"{override} has no effect on finished runs. Test a checkpoint with it (task=test ckpt=FILE) and name "
                "that directory in runs"
            )
    runs = [read_run(Path(str(path)), _trusted(config)) for path in config.runs]
    if OmegaConf.is_missing(config.data, "root"):
        with open_dict(config):
            config.data = runs[0].config.data.copy()
        return runs
    root = DataFolder.of(config).root
    return runs if root is None else [run.with_data_root(root) for run in runs]


def _compared(config: DictConfig, systems: Sequence[System], models: Models, settings: CompareSettings) -> Comparison:
    records = systems[0].records
    pattern = DataFolder.of(config).group_pattern
    with settings_under("data"):
        groups = [group_of(item.name, pattern) if item.name else str(item.image_id) for item in records]
    thresholds = {row.name: models.threshold(row, settings.ia_iou) for row in systems}
    measured = models.measured(settings.time_images)
    logger.info("%d resamples of %d images in %d slides", settings.resamples, len(records), len(set(groups)))
    return Comparison(
        score_systems(systems, baselines_of(systems), groups, thresholds, settings),
        {row.name: times_of(row, measured.get(row.run.directory)) for row in systems},
        settings,
        len(set(groups)),
        warnings_for(systems),
        origins_of(systems, remembered_digest),
        "compare.time_images=N measures the inference of N images",
    )
