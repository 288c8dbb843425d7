"""Experiments to be trained alike, and how far each has come in a comparison's directory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict

from kemr_lightning.comparison.fairness import differences, flat_settings, settings_of
from kemr_lightning.comparison.runs import is_finished, read_config
from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.overrides import is_one_of, key_of, override, split
from kemr_lightning.core.run_directory import COMPARED_RUNS, CONFIG, LAST

logger = logging.getLogger(__name__)

Compose = Callable[[list[str]], DictConfig]

OWN_KEYS = ("task", "experiment", "experiments", "runs", "name", "compare", "paths.run_dir")
"""Keys that belong to the comparison and not to its trainings; ``hydra.*`` never gets here."""
REFINING = ("refine", "knowledge")
"""Keys that only experiments that refine are given."""


def compose_experiments(
    names: Sequence[str], overrides: Sequence[str], compose: Compose, directory: Path
) -> dict[Path, DictConfig]:
    """The configuration of each training: the experiment's own, and what else the command line says.

    Args:
        names: The experiments.
        overrides: The whole command line of the comparison. Overrides of the refinement go only to experiments that
            refine; all others go to every experiment.
        compose: Makes a configuration from overrides.
        directory: The directory of the comparison.

    Returns:
        Run directory -> configuration, in the order of the names.

    Raises:
        SettingError: An experiment is named twice, or a checkpoint is given.
    """
    shared: list[str] = []
    refining: list[str] = []
    for word in overrides:
        key = key_of(word)
        if key == "ckpt":
            raise SettingError(
                *split(word),
                "has no use here: a comparison finds its checkpoints itself",
                "Leave it out; init starts every training from one file",
            )
        if not is_one_of(key, OWN_KEYS):
            (refining if is_one_of(key, REFINING) else shared).append(word)
    if len(set(names)) < len(names):
        raise SettingError("experiments", list(names), "names one twice", "Name each once")
    found = {}
    for name in names:
        words = [override("experiment", name), override("task", "train"), *shared]
        config = compose(words)
        if config.refine is not None and refining:
            config = compose([*words, *refining])
        run_dir = directory / COMPARED_RUNS / name
        with open_dict(config):
            config.paths.run_dir = str(run_dir)
        found[run_dir] = config
    return found


def train_missing(trainings: Mapping[Path, DictConfig], train: Callable[[DictConfig], Any]) -> None:
    """Train what is not finished yet, from its last checkpoint if it has one.

    Args:
        trainings: Run directory -> configuration.
        train: Trains and tests one.

    Raises:
        SettingError: The comparison's ``directory`` has a training with other settings.
    """
    for run_dir, config in trainings.items():
        _check_settings(run_dir, config)
    for number, (run_dir, config) in enumerate(trainings.items(), start=1):
        what = f"{run_dir.name} ({number} of {len(trainings)})"
        if is_finished(run_dir):
            logger.info("%s is finished: %s is read", what, run_dir)
            continue
        if (run_dir / LAST).is_file():
            logger.info("%s resumes from %s", what, run_dir / LAST)
            with open_dict(config):
                config.resume = "auto"
        else:
            logger.info("%s is trained in %s", what, run_dir)
        train(config)


def _check_settings(run_dir: Path, config: DictConfig) -> None:
    """Refuse to take the result of a training with other settings for this one's."""
    if not (run_dir / CONFIG).is_file() or not ((run_dir / LAST).is_file() or is_finished(run_dir)):
        return
    there = read_config(run_dir)
    both = {"there": _all_settings(there), "asked for": _all_settings(config)}
    if there.get("ckpt") is not None:
        # A resumed training has its start in the checkpoint; its configuration no longer says init.
        for settings in both.values():
            settings.pop("init", None)
    lines = differences(both)
    if lines:
        raise SettingError(
            "directory",
            run_dir.parent.parent,
            f"has a training of {run_dir.name} with other settings: {lines[0]}",
            f"Compare in another directory, ask for the same settings, or delete {run_dir}",
        )


def _all_settings(config: DictConfig) -> dict[str, Any]:
    """Everything that decides the result of a training: dotted keys and plain values, what is not set left out."""
    found = settings_of(config)
    for key in ("model", "refine", "knowledge"):
        found |= flat_settings(config, key)
    return found
