"""``task=compare``: systems trained alike, or finished runs, in one table; see docs/compare.md."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.loggers import WandbLogger
from omegaconf import DictConfig, OmegaConf, open_dict

from kemr_lightning.assembly.build import build_loggers, build_metric, logging_closed
from kemr_lightning.assembly.device import device_of
from kemr_lightning.comparison.experiments import REFINING, compose_experiments, train_missing
from kemr_lightning.comparison.fairness import check_same_test, notes
from kemr_lightning.comparison.models import Models
from kemr_lightning.comparison.report import draw_cases, log_to_wandb, pairs_to_show, print_report, write_report
from kemr_lightning.comparison.runs import FinishedRun, read_run
from kemr_lightning.comparison.scores import Settings, score_systems
from kemr_lightning.comparison.systems import System, baselines_of, systems_of
from kemr_lightning.comparison.table import Comparison
from kemr_lightning.comparison.times import times_of
from kemr_lightning.core.digests import remembered_digest
from kemr_lightning.core.distributed import is_first
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.overrides import is_one_of, key_of
from kemr_lightning.data.split import GROUP_PATTERN, group_of
from kemr_lightning.metrics.segmentation import have_masks
from kemr_lightning.output.run_summary import print_summary
from kemr_lightning.tasks.start import start
from kemr_lightning.tasks.train import train

logger = logging.getLogger(__name__)


def compare(config: DictConfig) -> None:
    """Train what is missing, and write the table and its pictures into the run directory.

    Args:
        config: The composed configuration. ``experiments`` are trained, or ``runs`` read; ``compare`` says how.

    Raises:
        UserError: The runs cannot be compared, or something in the configuration or the data has to be mended.
    """
    if bool(config.experiments) == bool(config.runs):
        raise UserError("task=compare needs experiments=[NAME,...] to train or runs=[DIR,...] to read, one of the two")
    if config.experiments:
        directory = start(config)
        trained = _trained(config, directory)
        if not is_first():
            return  # the trainings are every process's work, the table is one's
        runs = [read_run(path) for path in trained]
    else:
        runs = _given(config)
        directory = start(config)
    check_same_test(runs)
    systems = systems_of(runs, str(config.compare.cascade_from_kemr))
    comparison, models = _compared(config, runs, systems)
    for line in comparison.warnings:
        logger.warning("not alike: %s", line)
    write_report(comparison, directory)
    if have_masks(systems[0].records):
        pairs = pairs_to_show(systems, baselines_of(systems))
        draw_cases(pairs, comparison, models.test_images, int(config.compare.crops), directory / "figures")
    with logging_closed():
        for each in build_loggers(config):
            if isinstance(each, WandbLogger):
                log_to_wandb(each.experiment, directory)
            each.finalize("success")
    print_report(comparison)
    print_summary(directory)


def _trained(config: DictConfig, directory: Path) -> list[Path]:
    """The run directories of the experiments, trained as far as they were not."""
    hydra_config = HydraConfig.get()
    trainings = compose_experiments(
        [str(name) for name in config.experiments],
        list(hydra_config.overrides.task),
        lambda overrides: hydra.compose(hydra_config.job.config_name, overrides),
        directory,
    )
    try:
        train_missing(trainings, train)
    except KeyboardInterrupt:
        logger.warning("interrupted. The same command with hydra.run.dir=%s goes on", directory)
        raise
    return list(trainings)


def _given(config: DictConfig) -> list[FinishedRun]:
    """The finished runs; without ``data.root`` they know best where their data are."""
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    for override in given:
        if is_one_of(key_of(override), REFINING):
            raise UserError(
                f"{override} has no effect on finished runs. Test a checkpoint with it (task=test ckpt=FILE) and name "
                "that directory in runs"
            )
    runs = [read_run(Path(str(path))) for path in config.runs]
    if OmegaConf.is_missing(config.data, "root"):
        with open_dict(config):
            config.data = runs[0].config.data.copy()
    else:
        root = config.data.get("root")
        for run in runs:
            for node in (run.config.data, run.training.data):
                if root is not None and "root" in node:
                    node.root = root
    return runs


def _compared(config: DictConfig, runs: Sequence[FinishedRun], systems: Sequence[System]) -> tuple[Comparison, Models]:
    models = Models(runs, config.paths.get("store"), device_of(config))
    metric = build_metric(config)
    settings = Settings(
        metric.ia_score,
        metric.ia_iou,
        int(config.compare.resamples),
        float(config.compare.level),
        int(config.seed),
    )
    thresholds = {row.name: models.threshold(row, settings.ia_iou) for row in systems}
    measured = models.measured(int(config.compare.time_images))
    records = systems[0].records
    pattern = str(config.data.get("group_pattern", GROUP_PATTERN))
    groups = [group_of(item.name, pattern) if item.name else str(item.image_id) for item in records]
    logger.info("%d resamples of %d images in %d slides", settings.resamples, len(records), len(set(groups)))
    scores = score_systems(systems, baselines_of(systems), groups, thresholds, settings)
    warnings, facts = notes(systems, remembered_digest)
    comparison = Comparison(
        scores,
        {row.name: times_of(row, measured.get(row.run.directory)) for row in systems},
        {row.name: models.parameters[row.run.directory] for row in systems},
        settings,
        len(records),
        sum(len(item.truth) for item in records),
        len(set(groups)),
        warnings,
        facts,
    )
    return comparison, models
