"""Refuses credentials in a configuration: every run writes it into files, which are copied and shared."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kemr_lightning.core.errors import UserError

_NAME = re.compile(
    r"api_?key|passw(or)?d|secret|(access|auth|identity|bearer)_?token(?!_file)|credential", re.IGNORECASE
)
_IN_WORD = re.compile(rf"[\w.]*({_NAME.pattern})\w*(?=['\"]?\s*[:=])", re.IGNORECASE)
_WANDB_KEY = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])|wandb_v\d_\w{20,}")
"""A key of W&B: 40 hexadecimal digits, or one of the newer kind."""

IN_ENVIRONMENT = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN")

_CURE = (
    "would be written into the files of the run. Leave it out: `wandb login` stores a key outside them, and the "
    "environment variable WANDB_API_KEY gives one"
)


def refuse_credentials(settings: Mapping[str, Any]) -> None:
    """Check that a configuration has no credentials.

    Args:
        settings: The resolved configuration: nested mappings, lists and values.

    Raises:
        UserError: A key is named like one for credentials and has a value, or a value contains a key of W&B. The
            message names the setting, not its value.
    """
    for key, value in _leaves(settings, ""):
        named = _NAME.search(key.rsplit(".", 1)[-1]) is not None
        if value and (named or _has_key(value, key)):
            raise UserError(f"{key}: a key or password there {_CURE}")


def refuse_credentials_in(words: Sequence[str]) -> None:
    """Check that a command line has no credentials; Hydra copies it into files before anything else runs.

    Args:
        words: The words after the program's name.

    Raises:
        UserError: As for `refuse_credentials`.
    """
    for word in words:
        found = _IN_WORD.search(word)
        key = word.split("=", 1)[0].lstrip("+~")
        if found is not None and not word.endswith(("=null", "=")):
            raise UserError(f"{found[0].lstrip('+~')}: a key or password there {_CURE}")
        if _has_key(word, key) or any(f"oc.env:{name}" in word for name in IN_ENVIRONMENT):
            raise UserError(f"{key}: a key or password there {_CURE}")


def _has_key(value: str, key: str) -> bool:
    """Whether a text contains the key of W&B that this process knows, or what looks like one in W&B's settings."""
    known = [os.environ.get(name, "") for name in IN_ENVIRONMENT]
    if any(len(secret) >= 8 and secret in value for secret in known):
        return True
    return ("logger" in key or "wandb" in key.lower()) and _WANDB_KEY.search(value) is not None


def _leaves(node: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every text in nested values, with its dotted key."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{place}.{key}".lstrip("."))
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _leaves(value, place)
    elif isinstance(node, str):
        yield place, node
