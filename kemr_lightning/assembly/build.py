"""Objects built from the configuration: data, module, metric, callbacks, loggers, trainer."""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import hydra
import lightning.pytorch as pl
from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from kemr_lightning.assembly.data_folder import DataFolder
from kemr_lightning.assembly.settings import plain
from kemr_lightning.callbacks.refinement import RefinementCallback
from kemr_lightning.core.contracts import MaskRefiner, Samples
from kemr_lightning.core.digests import remembered_digest
from kemr_lightning.core.errors import SettingError, UserError, cause_of, settings_under
from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.data.mixture import Chain, MixtureDataModule, WeightedMixture
from kemr_lightning.data.synthetic import SyntheticDataModule
from kemr_lightning.metrics.protocol import InstanceMetric
from kemr_lightning.output.wandb_run import RunLogger, finish_run
from kemr_lightning.sweep import jobs
from kemr_lightning.training.checkpoint import load_module, without_weights
from kemr_lightning.training.checkpoint_files import CheckpointFiles
from kemr_lightning.training.module import SegmentationModule
from kemr_lightning.training.store import PredictionStore

logger = logging.getLogger(__name__)

DataModule = SegmentationDataModule | SyntheticDataModule | MixtureDataModule


def build_data(
    config: DictConfig, stage: str, label_names: list[str] | None = None, earlier_names: Sequence[str] = ()
) -> DataModule:
    """Build the data module and read the annotations, so that every fault in them shows before anything else runs.

    The testing jobs of a sweep that run in one process and name the same data share it, with the images it keeps.

    Args:
        config: The composed configuration.
        stage: ``"fit"`` or ``"test"``.
        label_names: Those of a checkpoint, which then decide what label 1, 2, ... mean.
        earlier_names: Those of a checkpoint that a training starts from: they do so if the data have no others.

    Returns:
        The data module, set up for the stage.

    Raises:
        UserError: The folder or a file in it is missing or broken.
    """
    same = f"{OmegaConf.to_yaml(config.data, resolve=True)}{label_names}"
    shared = stage == "test" and jobs.current() is not None
    if shared and same in _kept_data:
        return _kept_data[same]
    with settings_under("data"):
        data: DataModule = hydra.utils.instantiate(config.data)
    if label_names is not None:
        data.label_names = label_names
    if isinstance(data, SegmentationDataModule):
        data.score_all = stage == "test"
        data.earlier_names = list(earlier_names)
    with settings_under("data"):
        data.setup(stage)
    _kept_data.clear()
    if shared:
        _kept_data[same] = data
    return data


_kept_data: dict[str, DataModule] = {}
"""The data of the latest testing job of a sweep, by their settings."""


def whole_samples(data: DataModule, source: str) -> Samples:
    """Whole, unaugmented samples of a part.

    Args:
        data: Set up.
        source: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        The samples at their files' sizes.

    Raises:
        UserError: There are none.
    """
    part = {"train": data.train, "val": data.val, "test": data.test}[source]
    if isinstance(part, WeightedMixture):
        part = Chain(part.parts)
    if part is None or len(part) == 0:
        raise UserError(f"there are no {source} images to work on. Check data.root")
    return part.plain()


def build_module(config: DictConfig, label_names: list[str], pretrained: bool = True) -> SegmentationModule:
    """Build a module to be trained.

    Args:
        config: The composed configuration.
        label_names: Names of labels 1, 2, ...
        pretrained: Whether to load ``model.weights``; False where a checkpoint's weights take their place.

    Returns:
        The module; its checkpoints carry the model's configuration.

    Raises:
        UserError: The weights cannot be had, or a setting is wrong.
    """
    resolved = plain(config.model)
    if not isinstance(resolved, dict):
        raise UserError("model is not a mapping. Choose one of conf/model (model=NAME)")
    description = {str(key): value for key, value in resolved.items()} | {"num_classes": len(label_names)}
    with settings_under("model"), _together("model"):
        detector = hydra.utils.instantiate(description if pretrained else without_weights(description), _convert_="all")
    folder = DataFolder.of(config)
    module = SegmentationModule(
        detector,
        hydra.utils.instantiate(config.optimizer),
        hydra.utils.instantiate(config.scheduler),
        description,
        label_names,
        InputScale.of(folder.resize, folder.scale),
    )
    module.look_in(config.views)
    module.seed = config.seed
    return module


def build_metric(config: DictConfig) -> InstanceMetric:
    """Build what scores instances; every task that scores uses it, with its thresholds.

    Args:
        config: The composed configuration: its ``metric``.

    Raises:
        SettingError: A threshold is out of range.
    """
    with settings_under("metric"):
        return cast(InstanceMetric, hydra.utils.instantiate(config.metric))


def build_callbacks(config: DictConfig, refiner: MaskRefiner | None, metric: InstanceMetric) -> list[pl.Callback]:
    """Build the configured callbacks.

    Args:
        config: The composed configuration: its ``callbacks``; one that is null is left out.
        refiner: For the `RefinementCallback`.
        metric: Likewise.
    """
    built = []
    for name, node in (config.callbacks or {}).items():
        if node is None:
            continue
        with settings_under(f"callbacks.{name}"):
            make = hydra.utils.instantiate(node, _partial_=True)
            built.append(make(refiner=refiner, metric=metric) if _is_kind(make.func, RefinementCallback) else make())
    return built


def build_trainer(
    config: DictConfig,
    refiner: MaskRefiner | None,
    metric: InstanceMetric,
) -> pl.Trainer:
    """Build the trainer with its callbacks and loggers.

    Args:
        config: The composed configuration. A validation interval in steps that is longer than the run is shortened to
            it, so that a short run is validated, and saved, at its end.
        refiner: Refines the masks that are scored; None leaves them as they are.
        metric: Scores them.

    Returns:
        The trainer.

    Raises:
        UserError: A job of a sweep is to start processes of its own.
    """
    settings = config.trainer.copy()
    if settings.get("strategy") is not None and jobs.current() is not None and "SLURM_PROCID" not in os.environ:
        raise UserError(
            "trainer=ddp starts its processes with the command that was given, which for a sweep is the sweep. "
            "Use hydra/launcher=submitit_slurm, or trainer=default"
        )
    interval, steps = settings.val_check_interval, settings.max_steps
    if isinstance(interval, int) and 0 < steps < interval:
        settings.val_check_interval = steps
    callbacks = build_callbacks(config, refiner, metric)
    loggers = build_loggers(config)
    plugins = [*(hydra.utils.instantiate(node) for node in settings.get("plugins") or ()), CheckpointFiles()]
    with _together("trainer"):
        trainer: pl.Trainer = hydra.utils.instantiate(
            settings, callbacks=callbacks, logger=loggers or False, plugins=plugins
        )
    return trainer


COMBINED = (MisconfigurationException, ValueError, TypeError, RuntimeError, IndexError, KeyError, AssertionError)
"""What constructors raise where settings that are possible by themselves do not go together."""


@contextmanager
def _together(group: str) -> Iterator[None]:
    """Report that the settings of a group do not go together, or not with this machine."""
    try:
        yield
    except InstantiationException as error:
        if cause_of(error) is not None or not isinstance(error.__cause__, COMBINED):
            raise
        logger.debug("the settings of %s do not go together", group, exc_info=True)
        reason = " ".join(str(error.__cause__).split()).rstrip(".") or type(error.__cause__).__name__
        devices = any(word in reason.lower() for word in ("accelerator", "backend", "device"))
        cure = "trainer.accelerator=auto trainer.devices=1 take what there is" if devices else f"Change {group}.*"
        raise UserError(f"{group}: {reason}. {cure}") from error


def check_monitors(trainer: pl.Trainer, config: DictConfig) -> None:
    """Check that what callbacks watch is logged, before a training that would fail at its first validation.

    Callbacks and modules of a user's own may log anything, so nothing is checked where there are any.

    Args:
        trainer: As `build_trainer` has built it.
        config: The composed configuration, for the names of its callbacks.

    Raises:
        SettingError: A callback watches what no one logs.
    """
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    if any(not type(each).__module__.startswith(("kemr_lightning.", "lightning.")) for each in callbacks):
        return
    refinement = next((each for each in callbacks if isinstance(each, RefinementCallback)), None)
    figures = set() if refinement is None else refinement.logged("val")
    for name, node in (config.callbacks or {}).items():
        watched = None if node is None else node.get("monitor")
        if watched is None or watched in figures or str(watched).startswith(("train/loss", "lr-")):
            continue
        near = difflib.get_close_matches(str(watched), sorted(figures), 1, 0.5)
        cure = f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(figures))}"
        if not figures:
            cure = "Without callbacks.refinement nothing is scored: keep it, or leave this callback out"
        raise SettingError(f"callbacks.{name}.monitor", watched, "is not a figure of the validation", cure)


def _is_kind(made: object, kind: type) -> bool:
    """Whether a ``_target_`` is a class or one derived from it."""
    return isinstance(made, type) and issubclass(made, kind)


def build_loggers(config: DictConfig) -> list[Logger]:
    """The configured loggers, for a trainer or for a task that logs by itself."""
    return [_build_logger(node, config) for node in (config.logger or {}).values() if node is not None]


def _build_logger(node: DictConfig, config: DictConfig) -> Logger:
    """A logger; that of W&B has the configuration, a sweep's name as group and the job's overrides as tags."""
    built = hydra.utils.instantiate(node, _partial_=True)
    if not _is_kind(built.func, RunLogger):
        return cast(Logger, built())
    settings = cast(dict[str, Any], plain(config))
    job = jobs.current()
    if job is None:
        return cast(Logger, built.func(**{**built.keywords, "config": settings}))
    # The directory's name is the number, and unlike that it is one job's own in a sweep that has grown.
    name = f"{node.get('name') or job.group} {Path(config.paths.run_dir).name}"
    tags = [*(node.get("tags") or ()), *job.tags]
    settings |= job.settings()
    return cast(
        Logger, built.func(**{**built.keywords, "name": name, "group": job.group, "tags": tags, "config": settings})
    )


def trained_module(config: DictConfig, checkpoint: Path) -> SegmentationModule:
    """A module rebuilt from its checkpoint, with the store of its predictions.

    The jobs of a sweep that run in one process share it.

    Args:
        config: The composed configuration; see `store_of`.
        checkpoint: The checkpoint, see `kemr_lightning.assembly.checkpoints.needed_checkpoint`.

    Raises:
        UserError: See `load_module`.
    """
    key = remembered_digest(checkpoint)
    module = _kept.get(key) or load_module(checkpoint)
    _kept.clear()
    if jobs.current() is not None:
        _kept[key] = module
    module.limit_reached = False
    module.look_in(config.views)
    module.store = store_of(config, checkpoint, module)
    return module


def store_of(config: DictConfig, checkpoint: Path, module: SegmentationModule) -> PredictionStore | None:
    """The store of a module's initial predictions.

    Args:
        config: The composed configuration; ``paths.store`` is the folder of all stores, null for none.
        checkpoint: The file that the module's weights come from.
        module: The module, which already looks in the views that it will look in.
    """
    root = config.paths.get("store")
    return None if root is None else PredictionStore.of(root, checkpoint, module)


_kept: dict[str, SegmentationModule] = {}
"""The module of the latest job of a sweep, by its checkpoint's digest."""


@contextmanager
def logging_closed() -> Iterator[None]:
    """Finish the W&B run whatever happens, or the next job of a sweep would continue writing to it."""
    try:
        yield
    finally:
        job = jobs.current()
        finish_run({} if job is None else job.settings(), failed=sys.exc_info()[0] is not None)
