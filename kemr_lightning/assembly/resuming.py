"""From which state a training resumes, and whether that state is of the same training."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from kemr_lightning.assembly.checkpoints import BY_NAME, find_checkpoint
from kemr_lightning.comparison.fairness import flat_settings
from kemr_lightning.core.config_migration import read_run_config
from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.overrides import is_one_of
from kemr_lightning.core.run_directory import CHECKPOINTS, CONFIG, LAST, run_of_checkpoint
from kemr_lightning.training.checkpoint import read_checkpoint
from kemr_lightning.training.weights_file import PRETRAINED, SHIPPED

logger = logging.getLogger(__name__)

DECIDING = (
    "seed",
    "init",
    "model",
    "optimizer",
    "scheduler",
    "data",
    "metric",
    "refine",
    "knowledge",
    "trainer",
    "callbacks.ema",
    "callbacks.checkpoint.monitor",
    "callbacks.checkpoint.mode",
)
"""Settings that decide which weights a training ends with, and which of them are its best."""

FREE = (
    "data._convert_",
    "data.num_workers",
    "data.cache_mb",
    "refine.engine",
    "trainer._target_",
    "trainer.accelerator",
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.max_time",
    "trainer.default_root_dir",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.limit_test_batches",
    "trainer.limit_val_batches",
    "trainer.val_check_interval",
    "trainer.check_val_every_n_epoch",
    "trainer.strategy",
    "trainer.use_distributed_sampler",
    "trainer.plugins",
    "trainer.profiler",
)
"""Those of them that a training may be resumed with other values of: how long, how fast and where it trains, and how
often it is validated."""

PATHS = ("data.root", "init", "knowledge")
"""Those that name a file or folder."""

LENGTH = ("trainer.max_steps", "trainer.max_epochs", "trainer.max_time")


class State(NamedTuple):
    """A state to resume from.

    Attributes:
        path: The checkpoint.
        content: What it holds.
    """

    path: Path
    content: dict[str, Any]


def deciding_settings(config: DictConfig) -> dict[str, Any]:
    """What decides the course of a training: dotted keys and plain values, what is not set left out.

    Args:
        config: A resolved or resolvable configuration.
    """
    found: dict[str, Any] = {}
    for key in DECIDING:
        found |= flat_settings(config, key)
    for key in PATHS:
        if key in found and found[key] != PRETRAINED:
            found[key] = str(Path(str(found[key])).resolve())
    if found.get("data.seed") == found.get("seed"):
        found.pop("data.seed", None)  # it follows the seed
    return {key: value for key, value in found.items() if key in LENGTH or not is_one_of(key, FREE)}


def state_to_resume(config: DictConfig) -> State | None:
    """Find what a training resumes from.

    Args:
        config: The composed configuration. ``resume=auto`` asks for the newest whole state of this run directory, and
            so does a job that Slurm has requeued; ``ckpt`` names one, see `find_checkpoint`.

    Returns:
        The state, or None for a new training.

    Raises:
        UserError: There is no such file, it is damaged and there is no other in its folder, or it is of a training with
            other settings and ``resume_anyway`` is not set.
    """
    if config.resume not in (None, "auto"):
        raise SettingError("resume", config.resume, "is unknown", "Use auto, or null")
    requeued = _is_requeued(config)
    if config.resume is not None and config.ckpt is not None and not requeued:
        raise UserError(
            "resume and ckpt are both given. resume=auto finds the checkpoint itself; leave one of them out"
        )
    if config.resume is not None or requeued:
        state = _newest_whole(Path(config.paths.run_dir) / LAST)
        if state is None:
            logger.info("resume=auto: nothing was saved in %s yet: a new training", config.paths.run_dir)
    else:
        if config.ckpt is not None and config.init is not None:
            raise UserError("ckpt and init are both given. Use ckpt to resume a training, init to start a new one")
        file = find_checkpoint(config)
        if file is None:
            return None
        if file == SHIPPED:
            raise UserError("ckpt=pretrained cannot be resumed, as it has no training state. Use init=pretrained")
        state = _named(file, by_name=config.ckpt in BY_NAME)
    if state is not None:
        _check_same_training(config, state)
        logger.info("resuming from %s, step %d", state.path, state.content.get("global_step", 0))
    return state


def _is_requeued(config: DictConfig) -> bool:
    """Whether Slurm has requeued this job, and its earlier attempt has saved something in the same run directory."""
    count = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if not count or not (Path(config.paths.run_dir) / CHECKPOINTS).is_dir():
        return False
    logger.info("the job was requeued: resuming from %s", Path(config.paths.run_dir) / CHECKPOINTS)
    return True


def _named(file: Path, by_name: bool) -> State:
    """The state in a file; if it is damaged and was not given by its path, the newest whole one beside it."""
    if not by_name:
        return State(file, read_checkpoint(file))
    state = _newest_whole(file)
    if state is None:
        raise UserError(f"{file} is damaged, and there is no whole checkpoint beside it. Give another one (ckpt=FILE)")
    return state


def _newest_whole(first: Path) -> State | None:
    """The first whole checkpoint of a folder; what is damaged is reported.

    Args:
        first: The one that is preferred. The others follow by their age, youngest first.
    """
    others = sorted(first.parent.glob("*.ckpt"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in dict.fromkeys([*([first] if first.is_file() else []), *others]):
        if file.name.startswith("."):
            continue
        try:
            return State(file, read_checkpoint(file))
        except UserError as error:
            logger.warning("%s: it is passed over", error)
    return None


def _check_same_training(config: DictConfig, state: State) -> None:
    """Refuse, or with ``resume_anyway`` report, a state whose training had other settings."""
    asked, before = deciding_settings(config), _settings_of(state)
    if "init" not in asked:
        before.pop("init", None)  # where the training started has no effect any more
    if not isinstance(state.content.get("settings"), Mapping):
        asked = {key: value for key, value in asked.items() if key in before}  # other versions have other settings
        before = {key: value for key, value in before.items() if key in asked}
    pairs = {key: (before.get(key), asked.get(key)) for key in sorted({*before, *asked})}
    changed = {key: (old, new) for key, (old, new) in pairs.items() if _value(old) != _value(new)}
    told = {key: f"{key} {_shown(old)} -> {_shown(new)}" for key, (old, new) in changed.items()}
    longer = [line for key, line in told.items() if key in LENGTH]
    other = [line for key, line in told.items() if key not in LENGTH]
    if longer:
        logger.info("the training was planned for another length (%s)", ", ".join(longer))
    if not other:
        return
    if not config.resume_anyway:
        raise UserError(
            f"{state.path} is of a training with other settings: {', '.join(other)}. Give the settings it had, start a "
            "new training from its weights in another run directory (init=FILE), or resume it all the same "
            "(resume_anyway=true)"
        )
    logger.warning("resuming %s with other settings: %s", state.path, ", ".join(other))
    if any(key.startswith("optimizer.") for key in changed):
        logger.warning("the optimizer's settings are part of its state: they stay as they were")


def _settings_of(state: State) -> dict[str, Any]:
    """The settings that a state was trained with; of a checkpoint of an earlier version, those of its run directory."""
    kept = state.content.get("settings")
    if isinstance(kept, Mapping):
        return dict(kept)
    file = run_of_checkpoint(state.path) / CONFIG
    try:
        return deciding_settings(read_run_config(file))
    except (OSError, ValueError, YAMLError, OmegaConfBaseException):
        return {}


def _value(value: Any) -> Any:
    """A setting to compare: false and an empty list or text are the same as not set; a number never is."""
    return value if value or (isinstance(value, int | float) and not isinstance(value, bool)) else None


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)
