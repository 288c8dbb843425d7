"""Configurations of earlier versions, in today's form: parts of the package and settings have moved since."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf

MODULES = {
    "kemr_lightning.callbacks.checkpoint": "kemr_lightning.callbacks.save_checkpoints",
    "kemr_lightning.callbacks.knowledge": "kemr_lightning.callbacks.keep_knowledge",
    "kemr_lightning.distributed": "kemr_lightning.core.distributed",
    "kemr_lightning.schedule": "kemr_lightning.training.schedule",
}
"""Modules that a ``_target_`` may name: old name -> today's. A new name that moves again changes its entry here."""

SETTINGS = {"callbacks.refinement.metric": "metric"}
"""Settings that have moved: old dotted key -> today's."""

GONE = ("callbacks.refinement.refiner", "learn.settings._target_")
"""Settings that said nothing which is not said elsewhere."""

LARGEST = 4_000_000
"""Bytes of a configuration; those of runs have a few thousand."""


ADDED: dict[str, Any] = {
    "follow_links": False,
    "max_pixels": 500_000_000,
    "crowds": "ignore",
    "groups": "join",
    "ignore_labels": ["__ignore__", "ignore", "_background_"],
}
"""Settings of data folders that earlier versions did not have, with today's defaults."""


LIMITED = ("kemr_lightning.models.build.two_stage", "kemr_lightning.models.blendmask.blendmask")
"""Models whose limit of detections, 100, earlier versions left unsaid."""


def read_run_config(file: Path) -> DictConfig:
    """Read the configuration of a run, in today's form whatever version wrote it.

    Args:
        file: The ``config.yaml`` of a run directory.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not what a run writes, see `read_plain`, or has interpolations: a run writes its configuration
            resolved, and they could read the environment.
        YAMLError: It is not YAML.
        OmegaConfBaseException: OmegaConf does not accept it.
    """
    plain = read_plain(file)
    if _has_interpolation(plain):
        raise ValueError("it has unresolved values, which no run writes")
    return OmegaConf.create(upgraded(plain))


def read_plain(file: Path) -> dict[str, Any]:
    """Read a YAML file that may be anyone's, and resolve nothing in it.

    Args:
        file: A file that this package or Hydra writes into the directory of a run or a sweep.

    Returns:
        Its content. Interpolations are texts, ``${...}``.

    Raises:
        OSError: The file cannot be read.
        ValueError: It does not hold a mapping, or is not what is written there: too large, nested too deeply, or with
            references, by which a few lines can stand for gigabytes.
        YAMLError: It is not YAML.
        OmegaConfBaseException: OmegaConf does not accept it.
    """
    if file.stat().st_size > LARGEST:
        raise ValueError("it is too large")
    text = file.read_text(encoding="utf-8")
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, Loader=yaml.SafeLoader)):
            raise ValueError("it has references, which no run writes")
        plain = OmegaConf.to_container(OmegaConf.create(text))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(plain, dict):
        raise ValueError("it does not hold a mapping")
    return {str(key): value for key, value in plain.items()}


def _has_interpolation(node: Any) -> bool:
    if isinstance(node, Mapping):
        return any(_has_interpolation(value) for value in node.values())
    if isinstance(node, list):
        return any(_has_interpolation(value) for value in node)
    return isinstance(node, str) and "${" in node


def upgraded(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as today's version would have written it.

    Args:
        config: The content of a run's ``config.yaml`` as plain values, of any version. It is not changed.

    Returns:
        A copy with today's names; what today's version wrote comes back equal. Where both the old and the new place of
        a setting are filled, the new one counts.
    """
    found: dict[str, Any] = _retargeted(config)
    for old, new in SETTINGS.items():
        value = _taken(found, old)
        if value is not None:
            _put(found, new, value)
    for key in GONE:
        _taken(found, key)
    if isinstance(found.get("data"), dict) and "format" in found["data"]:
        found["data"] = {**ADDED, **found["data"]}
    model = found.get("model")
    if isinstance(model, dict) and model.get("_target_") in LIMITED:
        place = model["heads"] if isinstance(model.get("heads"), dict) else model
        place.setdefault("detections", 100)
    return found


def _retargeted(value: Any) -> Any:
    """A copy of nested values with today's name in every ``_target_``."""
    if isinstance(value, Mapping):
        return {
            key: _renamed(inner) if key == "_target_" and isinstance(inner, str) else _retargeted(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_retargeted(inner) for inner in value]
    return value


def _renamed(target: str) -> str:
    for old, new in MODULES.items():
        if target == old or target.startswith(f"{old}."):
            return new + target[len(old) :]
    return target


def _taken(config: dict[str, Any], key: str) -> Any:
    """Remove a setting and return it, or None if it is not there."""
    *path, last = key.split(".")
    node: Any = config
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    return node.pop(last, None) if isinstance(node, dict) else None


def _put(config: dict[str, Any], key: str, value: Any) -> None:
    """Set a setting where there is none; its groups are made."""
    *path, last = key.split(".")
    node: Any = config
    for part in path:
        node = node.setdefault(part, {})
    node.setdefault(last, value)
