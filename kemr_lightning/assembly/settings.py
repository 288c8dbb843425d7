"""A task's own settings, from their node of the configuration."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from kemr_lightning.core.errors import SettingError, settings_under

Settings = TypeVar("Settings")


def read_settings(config: DictConfig, group: str, kind: type[Settings], **more: Any) -> Settings:
    """Build a dataclass of settings from the node of its name.

    Args:
        config: The composed configuration.
        group: The node: ``"predict"``, ``"learn"``, ...
        kind: A dataclass whose fields are the node's keys; its ``__post_init__`` checks the values.
        more: Fields that the node does not have.

    Raises:
        SettingError: A value is wrong, or a key is not one of the dataclass's; it is named as in the configuration.
    """
    node = OmegaConf.to_container(config[group], resolve=True)
    assert isinstance(node, dict)
    known = {field.name: str(field.type) for field in fields(kind)}  # type: ignore[arg-type]
    with settings_under(group):
        for key, value in node.items():
            if key not in known or key in more:
                raise SettingError(str(key), value, "is not a setting", f"The settings are {', '.join(known)}")
        return kind(**{str(key): _whole(value, known[str(key)]) for key, value in node.items()}, **more)


def _whole(value: Any, kind: str) -> Any:
    """A number such as 1e4, which YAML reads as a float, as the whole number that its field expects."""
    whole = isinstance(value, float) and value.is_integer() and "int" in kind and "float" not in kind
    return int(value) if whole else value
