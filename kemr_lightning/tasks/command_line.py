"""Checks the command line before Hydra does, whose own message about a mistyped key advises to add it with ``+``."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.overrides import shell_word

OTHER_FLAGS = {"--help", "-h", "--hydra-help", "--version", "--info", "-i", "--config-dir", "-cd", "--config-path"}
"""Flags with which nothing is run, or that bring other configurations: nothing is checked then."""


def check_arguments(arguments: Sequence[str], config_dir: Path) -> None:
    """Check the overrides: that they can be read, that groups and keys exist, and that numbers are numbers.

    Args:
        arguments: The words after the program's name.
        config_dir: The folder ``conf``.

    Raises:
        UserError: One of them is wrong; says which, and what was probably meant.
    """
    if any(word.split("=")[0] in OTHER_FLAGS for word in arguments):
        return
    overrides = [_parsed(word) for word in arguments if not word.startswith("-") and "=" in word]
    overrides = [each for each in overrides if each.is_add() is False and each.is_delete() is False]
    overrides = [each for each in overrides if not each.key_or_group.startswith(("hydra.", "hydra/"))]
    groups = {folder.name for folder in config_dir.iterdir() if folder.is_dir()}
    chosen = [each for each in overrides if each.key_or_group in groups]
    defaults = _composed(chosen, config_dir)
    keys = sorted({*_paths(defaults), *groups})
    for each in overrides:
        if each in chosen:
            continue
        key = each.key_or_group
        if key not in keys:
            raise UserError(f"{key} is not a key of this configuration.{_meant(key, keys)}")
        default = OmegaConf.to_container(defaults, resolve=False)
        for part in key.split("."):
            default = default[part] if isinstance(default, dict) else None
        for value in _values(each):
            _check_kind(key, value, default)


def _parsed(word: str) -> Override:
    try:
        return OverridesParser.create().parse_override(word)
    except (OverrideParseException, HydraException) as error:
        key, value = word.split("=", 1)
        if "=" in value:
            raise UserError(
                f"{word}: Hydra reads no value with “=” in it as it stands. Write {shell_word(key, value)}, "
                "or rename the file"
            ) from error
        if value.startswith("~"):
            home = shell_word(key, Path(value).expanduser())
            raise UserError(f"{word}: neither the shell nor Hydra knows “~” here. Write {home}") from error
        raise UserError(
            f"{word} cannot be read ({str(error).splitlines()[0]}). Put quotes around what has special characters: "
            + shell_word(key, value)
        ) from error


def _composed(chosen: Sequence[Override], config_dir: Path) -> DictConfig:
    """The configuration with these groups and no other override."""
    words = [f"{each.key_or_group}={value}" for each in chosen for value in _values(each)[:1]]
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(config_dir.resolve())):
            return compose("config", overrides=words)
    except MissingConfigException as error:
        group, _, name = str(error.missing_cfg_file).partition("/")
        options = sorted(error.options or ())
        raise UserError(f"{group}={name} is not known. Choose one of {', '.join(options)}") from error


def _values(parsed: Override) -> list[Any]:
    """The values that an override sets, several in a sweep; none where they depend on more than the override."""
    if not parsed.is_sweep_override():
        return [_plain(parsed.value())]
    try:
        return [_plain(value) for value in parsed.sweep_iterator()]
    except HydraException:
        return []


def _plain(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value


def _paths(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """All keys, dotted, inner nodes included."""
    for name in node:
        key = str(name)
        yield prefix + key
        if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            inner = node[key]
            if isinstance(inner, DictConfig):
                yield from _paths(inner, prefix + key + ".")


def _meant(key: str, keys: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, keys, n=3, cutoff=0.75)
    near += [each for each in keys if each.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1] and each not in near][:3]
    if near:
        return f" Did you mean {' or '.join(near[:3])}?"
    return " `python run.py --cfg job` shows all of them"


def _check_kind(key: str, value: Any, default: Any) -> None:
    """A number, or yes and no, must stay one; null and interpolations may take the place of anything."""
    if value is None or (isinstance(value, str) and value.startswith("${")):
        return
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise UserError(f"{key}={value}: expected true or false, as in {key}={str(default).lower()}")
    elif isinstance(default, int | float) and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UserError(f"{key}={value} is not a number. The default is {key}={default}")
