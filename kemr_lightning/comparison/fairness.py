"""Which runs may not be compared, and what differs between compared runs besides the system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kemr_lightning.comparison.runs import FinishedRun
from kemr_lightning.comparison.systems import System
from kemr_lightning.core.errors import UserError
from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.refinement.parameters import PARAMETER_NAMES

BUDGET = ("seed", "init", "optimizer", "scheduler", "data", "model.weights", "callbacks.ema.decay")
TRAINER = (
    "max_steps",
    "max_epochs",
    "max_time",
    "limit_train_batches",
    "limit_val_batches",
    "gradient_clip_val",
    "val_check_interval",
)
WITHOUT_EFFECT = ("data.num_workers", "data.cache_mb", "data._convert_")
"""Settings that change how fast a model is trained, not which."""


def check_same_test(runs: Sequence[FinishedRun]) -> None:
    """Refuse runs that were scored on different images or against different annotations.

    Args:
        runs: At least one.

    Raises:
        UserError: Names two runs and what differs.
    """
    first = runs[0]
    for run in runs[1:]:
        _check_pair(f"{first.directory} and {run.directory}", first.initial, run.initial)


def _check_pair(both: str, first: Sequence[ImageRecord], second: Sequence[ImageRecord]) -> None:
    base, other = ({item.image_id: item for item in records} for records in (first, second))
    names = [{(item.name, item.size) for item in records.values()} for records in (base, other)]
    if names[0] != names[1]:
        name, _ = min(names[0] ^ names[1])
        raise UserError(
            f"{both} were tested on different images ({len(base)} and {len(other)}; {name} is not in both). "
            "Test the models on one data set"
        )
    for image_id, item in base.items():
        there = other.get(image_id)
        if there is None or there.name != item.name:
            raise UserError(f"{both} number their test images differently. Test the models again")
        if _annotations(item) != _annotations(there):
            raise UserError(
                f"{both} were scored against different annotations of {item.name} ({len(item.truth)} and "
                f"{len(there.truth)}; outlines or classes differ). Test the models on one version of the data set, "
                "with the same classes"
            )


def _annotations(item: ImageRecord) -> list[tuple[int, object]]:
    return [(entry.label, entry.counts or entry.box) for entry in item.truth]


def settings_of(config: DictConfig) -> dict[str, Any]:
    """What decides how a model is trained, besides its architecture: dotted keys and plain values.

    What is not set (null, or ``none``) is left out, so that configurations of different versions compare.

    Args:
        config: A run's resolved configuration.
    """
    found: dict[str, Any] = {}
    for key in (*BUDGET, *(f"trainer.{name}" for name in TRAINER)):
        found |= flat_settings(config, key)
    if found.get("data.seed") == found.get("seed"):
        found.pop("data.seed", None)  # it follows the seed: one line is enough
    return {key: value for key, value in found.items() if key not in WITHOUT_EFFECT}


def flat_settings(config: DictConfig, key: str) -> dict[str, Any]:
    """The settings at and below a key: dotted keys and plain values; what is not set (null, or ``none``) is left out.

    Args:
        config: A run's resolved configuration.
        key: A dotted key, which need not exist.
    """
    node = OmegaConf.select(config, key, default=None)
    return _flat(key, OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node)


def _flat(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {name: item for part, inner in value.items() for name, item in _flat(f"{key}.{part}", inner).items()}
    return {} if value is None or value in ("none", "???") else {key: value}


def differences(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line for each setting that is not the same everywhere.

    Args:
        settings: The settings of each row by its name, as `settings_of` gives them.

    Returns:
        Lines by key, such as ``trainer.max_steps differs: 4000 (Mask R-CNN, BlendMask), 2000 (KEMR-Net)``.
    """
    lines = []
    for key in sorted({key for values in settings.values() for key in values}):
        by_value: dict[str, list[str]] = {}
        for name, values in settings.items():
            by_value.setdefault(str(values.get(key, "none")), []).append(name)
        if len(by_value) > 1:
            shown = ", ".join(f"{value} ({', '.join(names)})" for value, names in by_value.items())
            lines.append(f"{key} differs: {shown}")
    return lines


def warnings_for(systems: Sequence[System]) -> list[str]:
    """What differs between the rows besides the system: settings of training and prediction, steps, machines.

    Args:
        systems: The rows.

    Returns:
        Lines as `differences` gives them.
    """
    lines = differences({row.name: settings_of(row.run.training) for row in systems})
    steps = {row.name: {"steps trained": row.run.timing.get("training", {}).get("steps")} for row in systems}
    if all(values["steps trained"] is not None for values in steps.values()):
        lines += differences(steps)
    lines += differences({row.name: _prediction_settings(row.run.config) for row in systems})
    known = {row.name: row.run.timing["machine"] for row in systems if "machine" in row.run.timing}
    return lines + differences(
        {name: {f"timing: {key}": value for key, value in machine.items()} for name, machine in known.items()}
    )


def origins_of(systems: Sequence[System], digest: Callable[[Path], str]) -> list[str]:
    """Where each row comes from: seed, checkpoint, how that was chosen, and how masks were refined.

    Args:
        systems: The rows.
        digest: Gives the SHA-256 of a file.

    Returns:
        A line per row.
    """
    lines = []
    for row in systems:
        monitor = OmegaConf.select(row.run.training, "callbacks.checkpoint.monitor", default="validation")
        line = f"{row.name}: seed {row.run.training.get('seed')}, checkpoint {digest(row.run.checkpoint)[:16]}"
        line += f" (SHA-256), chosen by {monitor}"
        if row.refined:
            line += f", refined by {describe_refinement(row.run.config)}"
        if row.borrowed:
            line += "; the KEMR-Net run before its refinement, chosen by its refined masks"
        lines.append(line)
    return lines


def _prediction_settings(config: DictConfig) -> dict[str, Any]:
    """What decides how a trained model predicts, besides refinement."""
    defaults = {"metric.threshold": 0.5, "views": 1}
    return {key: OmegaConf.select(config, key, default=value) for key, value in defaults.items()}


def describe_refinement(config: DictConfig) -> str:
    """How a run refined, in a few words."""
    if config.get("knowledge") is not None:
        return f"knowledge {Path(str(config.knowledge)).name}"
    refine = config.get("refine")
    if not isinstance(refine, DictConfig):
        return "nothing"
    shown = (*PARAMETER_NAMES, "iterations", "engine")
    return "CRF " + " ".join(f"{name}={refine[name]}" for name in shown if name in refine)
