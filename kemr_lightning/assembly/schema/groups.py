"""Groups of keys: those of a node of the configuration, and nodes with a ``_target_``, whose keys it decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union

from pydantic import ConfigDict, Discriminator, Tag, with_config
from typing_extensions import TypedDict

from kemr_lightning.assembly.schema.kinds import choice, flag, text

TARGET = "_target_"
MARK = "@"
"""First letter of the tags that stand for a ``_target_`` in the places of pydantic's errors."""

HYDRA_KEYS: dict[str, Any] = {
    TARGET: text,
    "_partial_": flag,
    "_recursive_": flag,
    "_convert_": choice("none", "partial", "object", "all"),
}
"""What Hydra itself reads beside a ``_target_``."""


def group(keys: Mapping[str, Any], more: bool = False) -> Any:
    """The type of a node: the keys that it may have, all of which may be missing.

    Args:
        keys: Key -> kind of value.
        more: Whether other keys are allowed as well.
    """
    made = TypedDict("made", dict(keys), total=False)  # type: ignore[misc]  # noqa: UP013
    return with_config(ConfigDict(strict=True, extra="allow" if more else "forbid"))(made)


@dataclass(frozen=True)
class Known:
    """A node of the package's own configuration.

    Attributes:
        target: What it builds, by the names that a configuration may give it.
        keys: Its keys.
        more: Whether other keys are allowed as well.
    """

    target: tuple[str, ...]
    keys: Mapping[str, Any]
    more: bool = False


def known(target: str | tuple[str, ...], keys: Mapping[str, Any], more: bool = False) -> Known:
    """See `Known`."""
    return Known((target,) if isinstance(target, str) else target, keys, more)


def built(*nodes: Known) -> Any:
    """The type of a node with a ``_target_``.

    Args:
        nodes: Those whose keys are known. Any other ``_target_`` is a user's, and may have any keys.
    """
    names = {target: f"{MARK}{node.target[0]}" for node in nodes for target in node.target}

    def tag(value: Any) -> str | None:
        target = value.get(TARGET) if isinstance(value, Mapping) else None
        return names.get(target, MARK) if isinstance(target, str) and target else None

    kinds = [Annotated[group({**HYDRA_KEYS, **node.keys}, node.more), Tag(f"{MARK}{node.target[0]}")] for node in nodes]
    foreign = Annotated[dict[Any, Any], Tag(MARK)]
    return Annotated[Union[(*kinds, foreign)], Discriminator(tag)]


def named(kind: Any) -> Any:
    """The type of a node whose keys are names that a user may choose."""
    return dict[str, kind]
