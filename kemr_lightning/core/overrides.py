"""Overrides of Hydra's command line, ``key=value``: parsed, and quoted so that Hydra reads the value meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from hydra.core.override_parser.types import Quote, QuotedString

_PLAIN = re.compile(r"[\w./:+-]+( [\w./:+-]+)*", re.ASCII)


def quoted(value: object) -> str:
    """A value in Hydra's grammar, in quotes if it has anything but letters, digits, inner spaces and a few signs.

    Args:
        value: A text or path, None, a bool, a number, or a list or tuple of such values.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ",".join(quoted(item) for item in value) + "]"
    text = str(value)
    return text if _PLAIN.fullmatch(text) else quoted_text(text)


def quoted_text(text: str) -> str:
    """A text in Hydra's grammar, in quotes whatever it looks like: ``'2024_05_12'`` is no number."""
    return QuotedString(text=text, quote=Quote.single).with_quotes()


def override(key: str, value: object) -> str:
    """``key=value`` as one word of a command line, without the shell's quotes."""
    return f"{key}={quoted(value)}"


def shell_word(key: str, value: object) -> str:
    """``key=value`` as one word of a command line that can be pasted into a shell."""
    return shlex.quote(override(key, value))


def key_of(word: str) -> str:
    """The key of an override, without ``+`` and ``~``; ``group@package`` keeps its package."""
    return word.split("=", 1)[0].lstrip("+~")


def split(word: str) -> tuple[str, str]:
    """The key and the value of an override, without ``+``, ``~`` and quotes."""
    return key_of(word), word.partition("=")[2].strip("'\"")


def number_or_text(value: str) -> float | int | str:
    """A value as an int or a float if it is one, otherwise as it is."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def is_one_of(key: str, keys: Sequence[str]) -> bool:
    """Whether a key is one of the given keys or below one of them."""
    return any(key == own or key.startswith((f"{own}.", f"{own}@")) for own in keys)
