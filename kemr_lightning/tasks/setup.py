"""What the tasks share: seeds, the run directory, parts built from the configuration, checkpoints found by name."""

from __future__ import annotations

import copy
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import hydra
import lightning.pytorch as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from kemr_lightning.assembly.refiner import use_knowledge
from kemr_lightning.core.distributed import is_first
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import write_text
from kemr_lightning.core.instances import Instances
from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.dataset import SampleDataset
from kemr_lightning.data.synthetic import SyntheticDataModule
from kemr_lightning.data.synthetic.dataset import SyntheticDataset
from kemr_lightning.output.wandb_run import RunLogger, finish_run
from kemr_lightning.sweep import jobs
from kemr_lightning.training.checkpoint import load_module, without_weights
from kemr_lightning.training.module import SegmentationModule
from kemr_lightning.training.store import PredictionStore, checkpoint_digest

logger = logging.getLogger(__name__)

RefineImage = Callable[[Tensor, Instances], Instances]
DataModule = SegmentationDataModule | SyntheticDataModule

CONFIG_FILE = "config.yaml"
CHECKPOINTS = "checkpoints"
BY_NAME = ("last", "best")


def start(config: DictConfig) -> Path:
    """Seed every generator, check what every task needs and write the resolved configuration.

    Args:
        config: The composed configuration.

    Returns:
        The run directory.

    Raises:
        UserError: ``data.root`` is not given, or ``data.resize`` is no size.
    """
    resize = config.data.get("resize")
    if resize is not None and (len(resize) != 2 or not all(isinstance(side, int) and side > 0 for side in resize)):
        raise UserError(
            f"data.resize={resize} is not a size. Give [width,height] in pixels, or null for the files' own"
        )
    if OmegaConf.is_missing(config.data, "root"):
        raise UserError(
            "data.root is not given. Name the folder of images and annotations (data.root=DIR), or use data=synthetic"
        )
    pl.seed_everything(config.seed, workers=True, verbose=False)
    directory = Path(config.paths.run_dir)
    if is_first():
        write_text(directory / CONFIG_FILE, OmegaConf.to_yaml(config, resolve=True))
    return directory


def build_data(
    config: DictConfig, stage: str, label_names: list[str] | None = None, earlier_names: Sequence[str] = ()
) -> DataModule:
    """Build the data module and read the annotations, so that every fault in them shows before anything else runs.

    The testing jobs of a sweep that run in one process and name the same data share it, with the images it keeps.

    Args:
        config: The composed configuration.
        stage: ``"fit"``, ``"test"`` or ``"predict"``.
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
    data: DataModule = hydra.utils.instantiate(config.data)
    if label_names is not None:
        data.label_names = label_names
    if isinstance(data, SegmentationDataModule):
        data.score_all = stage == "test"
        data.earlier_names = list(earlier_names)
    data.setup(stage)
    _kept_data.clear()
    if shared:
        _kept_data[same] = data
    return data


_kept_data: dict[str, DataModule] = {}
"""The data of the latest testing job of a sweep, by their settings."""


def whole_samples(data: DataModule, source: str) -> SampleDataset | SyntheticDataset:
    """Whole, unaugmented samples of a part.

    Args:
        data: Set up.
        source: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        The samples at their files' sizes.

    Raises:
        UserError: There are none.
    """
    part: SampleDataset | SyntheticDataset | None = {"train": data.train, "val": data.val, "test": data.test}[source]
    if part is None or len(part) == 0:
        raise UserError(f"there are no {source} images to work on. Check data.root")
    if isinstance(part, SampleDataset):
        return SampleDataset(part.records, part.label_names)
    plain = copy.copy(part)
    plain.augmentation = None
    return plain


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
    resolved = OmegaConf.to_container(config.model, resolve=True)
    if not isinstance(resolved, dict):
        raise UserError("model is not a mapping. Choose one of conf/model (model=NAME)")
    description = {str(key): value for key, value in resolved.items()} | {"num_classes": len(label_names)}
    module = SegmentationModule(
        hydra.utils.instantiate(description if pretrained else without_weights(description), _convert_="all"),
        hydra.utils.instantiate(config.optimizer),
        hydra.utils.instantiate(config.scheduler),
        description,
        label_names,
        config.data.get("resize"),
    )
    module.look_in(config.views)
    return module


def build_refiner(config: DictConfig, checkpoint: Path | None = None) -> RefineImage | None:
    """Build what refines the masks.

    Args:
        config: The composed configuration: its ``knowledge``, or else its ``refine``.
        checkpoint: The model in use, which the knowledge should come from.

    Returns:
        The refiner, or None for no refinement.

    Raises:
        UserError: The knowledge file or a parameter is wrong.
    """
    use_knowledge(config, checkpoint)
    return None if config.refine is None else cast(RefineImage, hydra.utils.instantiate(config.refine))


def build_trainer(
    config: DictConfig, refiner: RefineImage | None, extra: Sequence[pl.Callback] = (), log: bool = True
) -> pl.Trainer:
    """Build the trainer with its callbacks and loggers.

    Args:
        config: The composed configuration. A validation interval in steps that is longer than the run is shortened to
            it, so that a short run is validated, and saved, at its end.
        refiner: For the callback named ``refinement``.
        extra: Callbacks after the configured ones.
        log: Whether there is anything to log.

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
    callbacks = []
    for name, node in (config.callbacks or {}).items():
        if node is not None:
            callbacks.append(hydra.utils.instantiate(node, **({"refiner": refiner} if name == "refinement" else {})))
    loggers: list[Logger] = []
    if log:
        loggers = build_loggers(config)
    try:
        trainer: pl.Trainer = hydra.utils.instantiate(settings, callbacks=[*callbacks, *extra], logger=loggers or False)
    except InstantiationException as error:
        if isinstance(error.__cause__, MisconfigurationException):
            raise UserError(f"trainer: {error.__cause__} trainer.accelerator=auto takes what there is") from error
        raise
    return trainer


def build_loggers(config: DictConfig) -> list[Logger]:
    """The configured loggers, for a trainer or for a task that logs by itself."""
    return [_build_logger(node, config) for node in (config.logger or {}).values() if node is not None]


def _build_logger(node: DictConfig, config: DictConfig) -> Logger:
    """A logger; that of W&B has the configuration, a sweep's name as group and the job's overrides as tags."""
    built = hydra.utils.instantiate(node, _partial_=True)
    if built.func is not RunLogger:
        return cast(Logger, built())
    settings = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    job = jobs.current()
    if job is None:
        return RunLogger(**{**built.keywords, "config": settings})
    # The directory's name is the number, and unlike that it is one job's own in a sweep that has grown.
    name = f"{node.get('name') or job.group} {Path(config.paths.run_dir).name}"
    tags = [*(node.get("tags") or ()), *job.tags]
    settings |= job.settings()
    return RunLogger(**{**built.keywords, "name": name, "group": job.group, "tags": tags, "config": settings})


def find_checkpoint(config: DictConfig) -> Path | None:
    """The file that ``ckpt`` means.

    Args:
        config: The composed configuration; ``ckpt`` is a file, ``last``, ``best`` or None. A name means that
            file of this run's directory, or else of the experiment's newest run that has one, or without an experiment
            of the newest run at all. A training goes on only with a run on the same data; other tasks take the newest
            run at all where the experiment has none, as ``sigma_sweep`` never has.

    Returns:
        The file, or None without ``ckpt``.

    Raises:
        UserError: No such file.
    """
    if config.ckpt is None:
        return None
    if config.ckpt not in BY_NAME:
        file = Path(config.ckpt)
        if not file.is_file():
            raise UserError(f"ckpt={file} does not exist. Give a .ckpt file, last or best")
        return file
    name = f"{config.ckpt}.ckpt"
    here: Path = Path(config.paths.run_dir) / CHECKPOINTS / name
    if here.is_file():
        return here
    runs = Path(config.paths.runs)
    places = [runs]
    resuming = config.task.name == "train"
    if HydraConfig.initialized() and HydraConfig.get().runtime.choices.get("experiment") is not None:
        places = [runs / config.name, *([] if resuming else [runs])]
    found: list[Path] = []
    for place in places:
        found = found or sorted(place.glob(f"**/{CHECKPOINTS}/{name}"), key=lambda file: file.stat().st_mtime)
    elsewhere = bool(found) and not found[-1].is_relative_to(places[0])
    if resuming:
        found = [file for file in found if _same_data(file.parent.parent / CONFIG_FILE, config)]
    if not found:
        what = " on this data" if resuming else ""
        raise UserError(
            f"ckpt={config.ckpt}: no run{what} in {places[0]} has a checkpoint. Train first, or give a file (ckpt=FILE)"
        )
    newest: Path = found[-1]
    if elsewhere:
        logger.warning("ckpt=%s: %s has no checkpoint of its own; taking %s", config.ckpt, config.name, newest)
    else:
        logger.info("ckpt=%s is %s", config.ckpt, newest)
    return newest


def _same_data(earlier: Path, config: DictConfig) -> bool:
    """Whether an earlier run's configuration names the same kind of data in the same folder."""
    if not earlier.is_file():
        return False
    before = OmegaConf.load(earlier)
    roots = [str(OmegaConf.select(each, "data.root", throw_on_missing=False)) for each in (before, config)]
    return (
        Path(roots[0]).resolve() == Path(roots[1]).resolve()
        and OmegaConf.select(before, "data._target_") == config.data._target_
    )


def requeued_checkpoint(config: DictConfig) -> Path | None:
    """What a training goes on from when Slurm has started its job again in the same run directory.

    Args:
        config: The composed configuration.

    Returns:
        ``checkpoints/last.ckpt``; None in a job's first attempt, or where nothing was saved.
    """
    last = Path(config.paths.run_dir) / CHECKPOINTS / "last.ckpt"
    if not int(os.environ.get("SLURM_RESTART_COUNT", "0")) or not last.is_file():
        return None
    logger.info("the job was queued again: going on from %s", last)
    return last


def needed_checkpoint(config: DictConfig) -> Path:
    """The trained model that a task other than training works with.

    Args:
        config: The composed configuration; ``ckpt`` says which.

    Returns:
        Its file.

    Raises:
        UserError: There is none.
    """
    file = find_checkpoint(config)
    if file is None:
        raise UserError(f"task={config.task.name} needs a trained model. Give it: ckpt=FILE, ckpt=best or ckpt=last")
    return file


def trained_module(config: DictConfig) -> SegmentationModule:
    """The module that ``ckpt`` names, rebuilt from its checkpoint, with the store of its predictions.

    The jobs of a sweep that run in one process share it.

    Args:
        config: The composed configuration; ``paths.store`` is the folder of stored predictions, null for none.

    Raises:
        UserError: See `needed_checkpoint` and `load_module`.
    """
    checkpoint = needed_checkpoint(config)
    key = checkpoint_digest(checkpoint)
    module = _kept.get(key) or load_module(checkpoint)
    _kept.clear()
    if jobs.current() is not None:
        _kept[key] = module
    module.limit_reached = False
    module.look_in(config.views)
    root = config.paths.get("store")
    module.store = None if root is None else PredictionStore.of(root, checkpoint, module)
    return module


_kept: dict[str, SegmentationModule] = {}
"""The module of the latest job of a sweep, by its checkpoint's digest."""


def best_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def logging_closed() -> Iterator[None]:
    """Finish the W&B run whatever happens, or the next job of a sweep would go on writing to it."""
    try:
        yield
    finally:
        job = jobs.current()
        finish_run({} if job is None else job.settings(), failed=sys.exc_info()[0] is not None)
