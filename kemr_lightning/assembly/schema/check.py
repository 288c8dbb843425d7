"""Refuses a configuration that cannot work, before anything starts."""

from __future__ import annotations

import os
import pkgutil
import re
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf, open_dict

from kemr_lightning.assembly.schema.groups import TARGET
from kemr_lightning.assembly.schema.validate import Wrong, all_keys, wrong_settings
from kemr_lightning.core.credentials import refuse_credentials
from kemr_lightning.core.errors import SettingError

OURS = "kemr_lightning."


def check_config(config: DictConfig) -> None:
    """Check that every key is known and every value possible.

    Whole numbers that are written as ``1e3`` become integers in the configuration.

    Args:
        config: The composed configuration. Nodes with a ``_target_`` of the user's own may have any keys, and so may
            the top level if the task is the user's own or an interpolation uses the key.

    Raises:
        SettingError: Something is wrong: the first of it; the keys of the rest are named.
        UserError: The configuration has credentials in it.
        OmegaConfBaseException: An interpolation cannot be resolved.
    """
    settings = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    refuse_credentials(settings)
    wrong = _wrong(config, settings)
    for each in [each for each in wrong if each.whole]:
        with open_dict(config):
            OmegaConf.update(config, each.key, int(float(each.value)))
    if any(each.whole for each in wrong):
        settings = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
        wrong = _wrong(config, settings)
    if wrong:
        raise error_of(wrong)
    _check_targets(settings, "")
    _check_together(settings)


def _wrong(config: DictConfig, settings: dict[str, Any]) -> list[Wrong]:
    """What is wrong and not the user's own; of a value that others refer to, the value itself."""
    wrong = [each for each in wrong_settings(settings) if not _is_users(each, config)]
    return sorted(wrong, key=lambda each: _refers(config, each.key))


def _refers(config: DictConfig, key: str) -> bool:
    """Whether a value refers to another one."""
    *path, last = key.split(".")
    node = OmegaConf.select(config, ".".join(path)) if path else config
    return isinstance(node, DictConfig) and last in node and OmegaConf.is_interpolation(node, last)


def error_of(wrong: list[Wrong]) -> SettingError:
    """The error that reports wrong settings."""
    first = wrong[0]
    others = [each.key for each in wrong[1:] if each.value != first.value]
    more = f". Also wrong: {', '.join(others)}" if others else ""
    return SettingError(first.key, first.value, first.problem, f"{first.cure}{more}")


def _is_users(wrong: Wrong, config: DictConfig) -> bool:
    """Whether a key of the top level is one that a user has added for a purpose of their own."""
    if "." in wrong.key or wrong.key in all_keys():
        return False
    if not str(config.task.function).startswith(OURS):
        return True
    return re.search(rf"\$\{{{re.escape(wrong.key)}[.\[}}]", OmegaConf.to_yaml(config, resolve=False)) is not None


def _check_targets(node: Any, place: str) -> None:
    """Look up every ``_target_`` that is not the package's, so that a mistyped one is found now."""
    if isinstance(node, list):
        for index, inner in enumerate(node):
            _check_targets(inner, f"{place}.{index}")
    if not isinstance(node, dict):
        return
    target = node.get(TARGET)
    if isinstance(target, str):
        try:
            pkgutil.resolve_name(target)
        except Exception as error:  # whatever importing a user's module raises
            reason = " ".join(str(error).split())[:120]
            key = f"{place}.{TARGET}".lstrip(".")
            raise SettingError(key, target, f"cannot be found ({reason})", "Check the name, and PYTHONPATH") from error
    for key, inner in node.items():
        _check_targets(inner, f"{place}.{key}".lstrip("."))


def _check_together(settings: dict[str, Any]) -> None:
    """Check values that are possible by themselves, but not together or not on this machine."""
    trainer = settings.get("trainer") or {}
    _check_devices(trainer)
    limits = [trainer.get(key) for key in ("max_steps", "max_epochs")]
    endless = limits[0] in (-1, None) and limits[1] == -1 and trainer.get("max_time") is None
    if endless and not trainer.get("fast_dev_run"):
        raise SettingError(
            "trainer.max_epochs", -1, "lets a training run for ever", "Give trainer.max_steps, max_epochs or max_time"
        )


def _check_devices(trainer: dict[str, Any]) -> None:
    wanted, accelerator = trainer.get("devices", 1), trainer.get("accelerator", "auto")
    count = len(wanted) if isinstance(wanted, list) else wanted
    if not isinstance(count, int) or count <= 1:
        return
    import torch  # late: nothing else here needs it

    if accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available()):
        there, what = torch.cuda.device_count(), "GPUs"
    elif accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        there, what = max(2, os.cpu_count() or 1), "processor cores"
    else:
        return  # Lightning knows what other accelerators have
    if count > there:
        raise SettingError(
            "trainer.devices", wanted, f"is more than this machine has ({there} {what})", f"Give 1 to {there}, or auto"
        )
