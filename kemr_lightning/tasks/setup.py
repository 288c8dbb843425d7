"""What the tasks share: seeds, the run directory, parts built from the configuration, checkpoints found by name."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
import lightning.pytorch as pl
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from kemr_lightning.checkpoint import load_module
from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.synthetic import SyntheticDataModule
from kemr_lightning.errors import UserError
from kemr_lightning.module import SegmentationModule
from kemr_lightning.output.files import write_text

logger = logging.getLogger(__name__)

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
        UserError: ``data.root`` is not given.
    """
    if OmegaConf.is_missing(config.data, "root"):
        raise UserError(
            "data.root is not given. Name the folder of images and annotations (data.root=DIR), or use data=synthetic"
        )
    pl.seed_everything(config.seed, workers=True, verbose=False)
    directory = Path(config.paths.run_dir)
    write_text(directory / CONFIG_FILE, OmegaConf.to_yaml(config, resolve=True))
    return directory


def build_data(config: DictConfig, stage: str, label_names: list[str] | None = None) -> DataModule:
    """Build the data module and read the annotations, so that every fault in them shows before anything else runs.

    Args:
        config: The composed configuration.
        stage: ``"fit"``, ``"test"`` or ``"predict"``.
        label_names: Those of a checkpoint, which then decide what label 1, 2, ... mean.

    Returns:
        The data module, set up for the stage.

    Raises:
        UserError: The folder or a file in it is missing or broken.
    """
    data: DataModule = hydra.utils.instantiate(config.data)
    if label_names is not None:
        data.label_names = label_names
    if isinstance(data, SegmentationDataModule):
        data.score_all = stage == "test"
    data.setup(stage)
    return data


def build_module(config: DictConfig, label_names: list[str]) -> SegmentationModule:
    """Build a module to be trained.

    Args:
        config: The composed configuration.
        label_names: Names of labels 1, 2, ...

    Returns:
        The module; its checkpoints carry the model's configuration.
    """
    description = OmegaConf.to_container(config.model, resolve=True)
    if not isinstance(description, dict):
        raise UserError("model is not a mapping. Choose one of conf/model (model=NAME)")
    description["num_classes"] = len(label_names)
    return SegmentationModule(
        hydra.utils.instantiate(description, _convert_="all"),
        hydra.utils.instantiate(config.optimizer),
        hydra.utils.instantiate(config.scheduler),
        {str(key): value for key, value in description.items()},
        label_names,
        config.data.get("resize"),
    )


def build_trainer(config: DictConfig, extra: Sequence[pl.Callback] = (), log: bool = True) -> pl.Trainer:
    """Build the trainer with its callbacks and loggers.

    Args:
        config: The composed configuration. A validation interval in steps that is longer than the run is shortened to
            it, so that a short run is validated, and saved, at its end.
        extra: Callbacks after the configured ones.
        log: Whether there is anything to log.

    Returns:
        The trainer.
    """
    settings = config.trainer.copy()
    interval, steps = settings.get("val_check_interval"), settings.get("max_steps", -1)
    if isinstance(interval, int) and 0 < steps < interval:
        settings.val_check_interval = steps
    callbacks = [*_parts(config.callbacks), *extra]
    loggers: list[Logger] = list(_parts(config.logger)) if log else []
    trainer: pl.Trainer = hydra.utils.instantiate(settings, callbacks=callbacks, logger=loggers or False)
    return trainer


def _parts(group: DictConfig | None) -> list[Any]:
    """Build every member of a group; a member set to null on the command line is left out."""
    return [hydra.utils.instantiate(node) for node in (group or {}).values() if node is not None]


def find_checkpoint(config: DictConfig) -> Path | None:
    """The file that ``ckpt`` means.

    Args:
        config: The composed configuration; ``ckpt`` is a file, ``last``, ``best`` or None. A name means that
            file of this run's directory, or else of the experiment's newest run that has one.

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
    runs = Path(config.paths.runs) / config.name
    found = sorted(runs.glob(f"**/{CHECKPOINTS}/{name}"), key=lambda file: file.stat().st_mtime)
    if not found:
        raise UserError(
            f"ckpt={config.ckpt}: no run in {runs} has a checkpoint. Train first, or give a file (ckpt=FILE)"
        )
    newest: Path = found[-1]
    logger.info("ckpt=%s is %s", config.ckpt, newest)
    return newest


def trained_module(config: DictConfig) -> SegmentationModule:
    """The model that a task other than training works with.

    Args:
        config: The composed configuration; ``ckpt`` says which.

    Returns:
        The module, rebuilt from its checkpoint.

    Raises:
        UserError: There is no checkpoint or it cannot be used.
    """
    file = find_checkpoint(config)
    if file is None:
        raise UserError(f"task={config.task.name} needs a trained model. Give it: ckpt=FILE, ckpt=best or ckpt=last")
    return load_module(file)


@contextmanager
def logging_closed() -> Iterator[None]:
    """Finish the W&B run whatever happens, or the next job of a sweep would go on writing to it."""
    try:
        yield
    finally:
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=1 if sys.exc_info()[0] else 0)


def report(config: DictConfig, directory: Path, trainer: pl.Trainer) -> None:
    """Log the figures."""
    logger.info(
        "%s %s %s", config.name, directory, {k: round(float(v), 2) for k, v in trainer.callback_metrics.items()}
    )
