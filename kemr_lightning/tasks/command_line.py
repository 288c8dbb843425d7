"""Checks the command line before Hydra does, whose own message about a mistyped key advises to add it with ``+``."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kemr_lightning.assembly.schema.check import error_of
from kemr_lightning.assembly.schema.validate import text_keys, wrong_settings
from kemr_lightning.core.credentials import refuse_credentials_in
from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.overrides import key_of, quoted_text, shell_word

OTHER_FLAGS = {"--help", "-h", "--hydra-help", "--version", "--info", "-i", "--config-dir", "-cd", "--config-path"}
"""Flags with which nothing is run, or that bring other configurations: no key is checked then."""

SWEEPING = {"-m", "--multirun", "hydra.mode=MULTIRUN"}

RUN_DIR, SWEEP_DIR, RUNS = "hydra.run.dir", "hydra.sweep.dir", "paths.runs"
HYDRA_TEXTS = {RUN_DIR, SWEEP_DIR, "hydra.sweep.subdir", "hydra.job.name", "tune.storage"}
"""Keys outside the schema whose values are texts."""

NAMED = ("callbacks", "logger")
"""Nodes whose keys are names: below them a key of the schema stands after the name."""


def with_texts(arguments: Sequence[str]) -> list[str]:
    """The command line with quotes around texts that Hydra would read as numbers: ``data.root=2024_05_12``.

    Args:
        arguments: The words after the program's name.
    """
    return [_with_quotes(word) for word in arguments]


def _with_quotes(word: str) -> str:
    key, equals, value = word.partition("=")
    if word.startswith("-") or not equals:
        return word
    name = key_of(word)
    first, *rest = name.split(".")
    plain = ".".join([first, *rest[1:]]) if first in NAMED else name
    single, several = text_keys()
    is_text = plain in single or plain in HYDRA_TEXTS or name.startswith("data.lists.")
    if plain in several and value.startswith("[") and value.endswith("]"):
        inner = value[1:-1].split(",")
        if any(_reads_as_number(item.strip()) for item in inner):
            return f"{key}=[{','.join(_as_text(item.strip()) for item in inner)}]"
    if not is_text or any(sign in value for sign in "'\"[]{}()$"):
        return word
    return f"{key}={','.join(_as_text(item) for item in value.split(','))}"


def _as_text(item: str) -> str:
    return quoted_text(item) if _reads_as_number(item) else item


def _reads_as_number(item: str) -> bool:
    """Whether Hydra would read a word as a number, or as true or false."""
    try:
        return isinstance(OverridesParser.create().parse_override(f"key={item}").value(), bool | int | float)
    except HydraException:
        return False


def check_arguments(arguments: Sequence[str], config_dir: Path) -> None:
    """Check the overrides: that they can be read, that groups and keys exist, and that values are possible.

    Args:
        arguments: The words after the program's name.
        config_dir: The folder ``conf``.

    Raises:
        UserError: One of them is wrong; says which, and what was probably meant.
    """
    refuse_credentials_in(arguments)
    if any(word.split("=")[0] in OTHER_FLAGS for word in arguments):
        return
    sweeping = bool(SWEEPING & set(arguments))
    overrides = [_parsed(word) for word in arguments if not word.startswith("-") and "=" in word]
    for each in overrides:
        if each.is_sweep_override() and not sweeping:
            _refuse_several(each)
    _check_directory({each.key_or_group: each for each in overrides}, sweeping)
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
        for value in _values(each):
            _check_value(key, value, defaults)


def _parsed(word: str) -> Override:
    try:
        return OverridesParser.create().parse_override(word)
    except (OverrideParseException, HydraException) as error:
        key, value = word.split("=", 1)
        if value.startswith("~"):
            home = shell_word(key, Path(value).expanduser())
            raise UserError(f"{word}: neither the shell nor Hydra knows “~” here. Write {home}") from error
        if "=" in value and "," not in value and not value.startswith(("'", '"')):
            raise UserError(
                f"{word}: Hydra reads no value with “=” in it as it stands. Rename the file, or write "
                + shell_word(key, value)
            ) from error
        raise UserError(
            f"{word} cannot be read ({str(error).splitlines()[0]}). Put quotes around what has special characters: "
            + shell_word(key, value)
        ) from error


def _refuse_several(parsed: Override) -> None:
    """Refuse several values where there is no sweep: Hydra's own message has many lines."""
    word = str(parsed.input_line)
    key, _, value = word.partition("=")
    raise UserError(
        f"{word} reads as several values. Add -m to run a sweep over them; if it is one value, write "
        + shell_word(key, value)
    )


def _check_directory(given: dict[str, Override], sweeping: bool) -> None:
    """Check that the run's directory can be made; Hydra makes it before anything of ours runs."""
    key = SWEEP_DIR if sweeping else RUN_DIR
    key, value = next(((name, _values(given[name])) for name in (key, RUNS) if name in given), (RUNS, ["runs"]))
    if not value or value[0] is None or "${" in str(value[0]):
        return
    place = directory = Path(str(value[0])).expanduser()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        if not place.is_dir():
            raise NotADirectoryError(f"{place} is not a directory")
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingError(key, directory, f"cannot be written to ({reason})", "Give another directory") from error


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
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        for each in chosen:
            options = sorted(path.stem for path in (config_dir / each.key_or_group).glob("*.yaml"))
            for value in _values(each):
                if str(value) not in options:
                    raise SettingError(
                        each.key_or_group, value, "is not known", f"Choose one of {', '.join(options)}"
                    ) from error
        raise UserError(f"the configuration cannot be composed ({' '.join(str(error).split())})") from error


def _values(parsed: Override) -> list[Any]:
    """The values that an override sets, several in a sweep; none where they depend on more than the override."""
    if not parsed.is_sweep_override():
        return [_plain(parsed.value())]
    try:
        return [_plain(value) for value in parsed.sweep_iterator()]
    except HydraException:
        return []


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
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


def _check_value(key: str, value: Any, defaults: DictConfig) -> None:
    """Check one value by itself; interpolations may take the place of anything."""
    if isinstance(value, str) and "${" in value:
        return
    settings = cast(dict[str, Any], OmegaConf.to_container(defaults, resolve=False))
    *path, last = key.split(".")
    node: Any = settings
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict):
        return
    node[last] = value
    wrong = [each for each in wrong_settings(settings) if each.key == key or each.key.startswith(f"{key}.")]
    wrong = [each for each in wrong if not each.whole and not str(each.value).startswith("${")]
    if wrong:
        raise error_of(wrong)
