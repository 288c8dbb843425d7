"""Checks a configuration against the schema: every key known, every value of its kind and in its range."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, get_args

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import is_typeddict

from kemr_lightning.assembly.schema.groups import MARK, TARGET, group
from kemr_lightning.assembly.schema.kinds import WRONG, text, texts
from kemr_lightning.assembly.schema.task_keys import ROOT_KEYS

MISSING = "???"
"""How OmegaConf writes a value that has to be given."""

SHOWN = 60
"""Letters of a wrong value that an error repeats."""

NEAR = 0.7
"""How alike two keys are, 0 to 1, if one may be a mistyped other."""


class Wrong(NamedTuple):
    """A setting that is wrong.

    Attributes:
        key: Where it is, dotted.
        value: What it is.
        problem: What is wrong with it, as in `SettingError`.
        cure: What to do, as in `SettingError`.
        whole: Whether a whole number is wanted there, and the value is one that is written as ``1e3`` or ``2.0``.
    """

    key: str
    value: Any
    problem: str
    cure: str
    whole: bool = False


@cache
def _root() -> Any:
    return group(ROOT_KEYS)


@cache
def _adapter() -> TypeAdapter[Any]:
    return TypeAdapter(_root())


def wrong_settings(settings: Mapping[str, Any]) -> list[Wrong]:
    """Everything in a configuration that the schema does not allow.

    Args:
        settings: The configuration as plain dicts, lists and values. Values that are missing are passed over.
    """
    try:
        _adapter().validate_python(_without_missing(settings))
    except ValidationError as error:
        return [_explained(each) for each in error.errors(include_url=False)]
    return []


def _without_missing(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_missing(inner) for key, inner in value.items() if inner != MISSING}
    return value


def _explained(error: ErrorDetails) -> Wrong:
    """An error of pydantic's in our words."""
    place, value, kind = list(error["loc"]), error["input"], error["type"]
    # Tags stand for a `_target_`; what has brackets names an alternative of a union.
    key = ".".join(str(part) for part in place if not str(part).startswith(MARK) and "[" not in str(part))
    if kind == WRONG:
        words = error["ctx"]["words"]
        is_whole = "whole number" in words and isinstance(value, float) and value.is_integer()
        number = isinstance(value, int | float) and not isinstance(value, bool)
        wants_number = words.startswith(("a number", "a whole number"))
        problem = "is not a number" if wants_number and not number and value is not None else "is not possible"
        return Wrong(key, _short(value), problem, f"Give {words}", is_whole)
    if kind == "extra_forbidden":
        return Wrong(key, _short(value), "is not a setting", _nearest(key, _keys_beside(place)))
    if kind.startswith("union_tag"):
        if isinstance(value, Mapping):
            return Wrong(key, _short(value), f"has no {TARGET}", f"Choose one of conf/ for it, or give {key}.{TARGET}")
        return Wrong(key, _short(value), "is not a group of settings", f"Leave it out, or set {key}.KEY")
    if kind == "dict_type":
        return Wrong(key, _short(value), "is not a group of settings", f"Leave it out, or set {key}.KEY")
    return Wrong(key, _short(value), "is not possible", error["msg"])


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    shown = "null" if value is None else " ".join(str(value).split())
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


def _keys_beside(place: Sequence[Any]) -> list[str]:
    """The keys that the schema knows in the node of a place in pydantic's errors, dotted."""
    node, path = _root(), []
    for part in place[:-1]:
        if str(part).startswith(MARK):
            node = next((each for each in _alternatives(node) if _tag_of(each) == part), None)
        else:
            path.append(str(part))
            node = _inside(node, str(part))
    found = list(_groups(node))[:1]
    return [".".join([*path, name]) for each in found for name in each.__annotations__]


def _nearest(key: str, beside: Sequence[str]) -> str:
    group_name, _, last = key.rpartition(".")
    names = [each.rsplit(".", 1)[-1] for each in beside]
    names = [each for each in names if not each.startswith("_")]
    near = [f"{group_name}.{each}".lstrip(".") for each in difflib.get_close_matches(last, names, n=2, cutoff=NEAR)]
    if not near:
        same = sorted(
            (each for each in all_keys() if each.rsplit(".", 1)[-1] == last), key=lambda each: each.count(".")
        )
        near = [each for each in same if each.count(".") == same[0].count(".")][:2]
    if near:
        return f"Did you mean {' or '.join(near)}?"
    return f"There are {', '.join(names)}" if names else "`python run.py --cfg job` shows all of them"


def _groups(node: Any) -> Iterator[Any]:
    """The groups that a type is made of: itself, or the alternatives of a union."""
    if is_typeddict(node):
        yield node
    elif node is not None:
        for each in get_args(node):
            yield from _groups(each)


def _alternatives(node: Any) -> Iterator[Any]:
    """The tagged types within a type."""
    if node is not None and _tag_of(node) is not None:
        yield node
    for each in get_args(node):
        yield from _alternatives(each)


def _tag_of(node: Any) -> str | None:
    return next((each.tag for each in getattr(node, "__metadata__", ()) if hasattr(each, "tag")), None)


def _inside(node: Any, key: str) -> Any:
    """The type of a key of a node."""
    for each in _groups(node):
        if key in each.__annotations__:
            return each.__annotations__[key]
    # A node whose keys are names, such as callbacks: dict[str, kind].
    return node


@cache
def all_keys() -> frozenset[str]:
    """Every dotted key of the schema; those of nodes that a user names, such as callbacks, by ``*``."""
    return frozenset(key for key, _ in _walk(_root(), ""))


@cache
def text_keys() -> tuple[frozenset[str], frozenset[str]]:
    """The dotted keys whose values are texts, and those whose values are lists of texts."""
    kinds = dict(_walk(_root(), ""))
    single = frozenset(key for key, kind in kinds.items() if _is(kind, text))
    return single, frozenset(key for key, kind in kinds.items() if _is(kind, texts) or key in ("runs", "experiments"))


def _is(kind: Any, wanted: Any) -> bool:
    return kind == wanted or any(each == wanted for each in get_args(kind) if each is not type(None))


def _walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for each in _groups(node):
        for name, kind in each.__annotations__.items():
            yield prefix + name, kind
            yield from _walk(kind, f"{prefix}{name}.")
