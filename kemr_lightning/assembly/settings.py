"""A task's own settings, from their node of the configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError

from kemr_lightning.core.errors import SettingError, settings_under

Settings = TypeVar("Settings")


def read_settings(config: DictConfig, group: str, kind: type[Settings], **more: Any) -> Settings:
    """Build a dataclass of settings from the node of its name.

    Args:
        config: The composed configuration.
        group: The node: ``"predict"``, ``"learn.settings"``, ...
        kind: A dataclass whose fields are the node's keys; its ``__post_init__`` checks the values.
        more: Fields that the node does not have. An error in one of them keeps the field's name.

    Raises:
        SettingError: A value is wrong, a key is not one of the dataclass's, or the node is not a group of settings. The
            setting is named as in the configuration.
    """
    known = {field.name: str(field.type) for field in fields(kind) if field.name not in more}  # type: ignore[arg-type]
    node = check_keys(config, group, known)
    values = {key: _whole(value, known[key]) for key, value in node.items()}
    with settings_under("", **{name: f"{group}.{name}" for name in known}):
        try:
            made = kind(**values, **more)
        except TypeError:
            _check_types(kind, values)  # a check compared what cannot be compared
            raise
        _check_types(kind, values)
        return made


def _check_types(kind: type, values: Mapping[str, Any]) -> None:
    """Check values against the types of a dataclass's fields, for what its own checks leave out.

    Raises:
        SettingError: A value is of another type.
    """
    types = get_type_hints(kind)
    for name, value in values.items():
        try:
            TypeAdapter(types[name]).validate_python(value, strict=True)
        except ValidationError as error:
            raise SettingError(name, value, "is not possible", f"Give {_words(types[name])}") from error


def _words(kind: Any) -> str:
    """What a type allows, in words."""
    if isinstance(kind, UnionType) or get_origin(kind) is Union:
        return " or ".join(_words(each) for each in get_args(kind))
    if get_origin(kind) is Literal:
        return " or ".join(str(each) for each in get_args(kind))
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", type(None): "null"}
    return words.get(kind, getattr(kind, "__name__", str(kind)))


def check_keys(config: DictConfig, group: str, known: Collection[str]) -> dict[str, Any]:
    """The values of a node, all of whose keys are known.

    Args:
        config: The composed configuration.
        group: The node, as in `read_settings`.
        known: The keys that it may have.

    Raises:
        SettingError: A key is unknown, or the node is a value instead of a group of settings.
    """
    node = plain(OmegaConf.select(config, group))
    if not isinstance(node, dict):
        cure = f"Leave it as it is, or set {' or '.join(f'{group}.{key}' for key in known)}"
        raise SettingError(group, node, "is not a group of settings", cure)
    for key, value in node.items():
        if key not in known:
            raise SettingError(f"{group}.{key}", value, "is not a setting", f"The settings are {', '.join(known)}")
    return {str(key): value for key, value in node.items()}


def plain(node: Any) -> Any:
    """A node of the configuration as resolved dicts, lists and values; anything else as it is."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _whole(value: Any, kind: str) -> Any:
    """A number such as 1e4, which YAML reads as a float, as the whole number that its field expects."""
    whole = isinstance(value, float) and value.is_integer() and "int" in kind and "float" not in kind
    return int(value) if whole else value


def given_overrides() -> Sequence[str]:
    """What was given on the command line (or by a sweep); nothing when not started through Hydra."""
    if not HydraConfig.initialized():
        return ()
    return list(HydraConfig.get().overrides.task)
