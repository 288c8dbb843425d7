"""The checkpoint that ``ckpt=FILE``, ``ckpt=last`` and ``ckpt=best`` mean."""

from __future__ import annotations

import logging
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from kemr_lightning.core.config_migration import read_run_config
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.run_directory import BEST_NAME, CHECKPOINTS, CONFIG, LAST_NAME, run_of_checkpoint
from kemr_lightning.training.weights_file import PRETRAINED, SHIPPED

logger = logging.getLogger(__name__)

BY_NAME = {"last": LAST_NAME, "best": BEST_NAME}


def find_checkpoint(config: DictConfig) -> Path | None:
    """The file that ``ckpt`` means.

    Args:
        config: The composed configuration; ``ckpt`` is a file, ``last``, ``best``, ``pretrained`` (the model that
            comes with the package) or None. ``last`` and ``best`` mean that file of
            this run's directory, or else of the experiment's newest run that has one, or without an experiment of the
            newest run of all. A training resumes only a run on the same data; other tasks take the newest run of
            all where the experiment has none, as ``sigma_sweep`` never has.

    Returns:
        The file, or None without ``ckpt``.

    Raises:
        UserError: No such file.
    """
    if config.ckpt is None:
        return None
    if config.ckpt == PRETRAINED:
        return shipped_weights("ckpt")
    if config.ckpt not in BY_NAME:
        file = Path(config.ckpt)
        if not file.is_file():
            raise UserError(f"ckpt={file} does not exist. Give a .ckpt file, last or best")
        return file
    name = BY_NAME[config.ckpt]
    here: Path = Path(config.paths.run_dir) / CHECKPOINTS / name
    return here if here.is_file() else _newest(name, config)


def _newest(name: str, config: DictConfig) -> Path:
    """The newest checkpoint of a name among earlier runs."""
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
        found = [file for file in found if _same_data(run_of_checkpoint(file) / CONFIG, config)]
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
    try:
        before = read_run_config(earlier)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        logger.warning("%s cannot be read (%s): its run is passed over", earlier, " ".join(str(error).split())[:120])
        return False
    roots = [str(OmegaConf.select(each, "data.root", throw_on_missing=False)) for each in (before, config)]
    return (
        Path(roots[0]).resolve() == Path(roots[1]).resolve()
        and OmegaConf.select(before, "data._target_") == config.data._target_
    )


def needed_checkpoint(config: DictConfig) -> Path:
    """The trained model that a task other than training works with.

    Args:
        config: The composed configuration; ``ckpt`` says which.

    Returns:
        Its file; without ``ckpt`` that of the model that comes with the package.

    Raises:
        UserError: It does not exist.
    """
    file = find_checkpoint(config)
    if file is None:
        file = shipped_weights("ckpt")
        logger.info("ckpt is not given: the model that comes with the package is used (%s)", file.name)
    return file


def initial_weights(config: DictConfig) -> Path | None:
    """The file whose weights a new training starts from: what ``init`` means.

    Args:
        config: The composed configuration; ``init`` is a file, ``pretrained`` or None.

    Raises:
        UserError: No such file.
    """
    if config.init is None:
        return None
    return shipped_weights("init") if config.init == PRETRAINED else Path(config.init)


def shipped_weights(key: str) -> Path:
    """The file of the model that comes with the package.

    Args:
        key: Setting that means it, for the message.

    Raises:
        UserError: This copy of the package lacks it.
    """
    if not SHIPPED.is_file():
        raise UserError(f"{SHIPPED} is missing from this installation. Install the package again, or give {key}=FILE")
    return SHIPPED
