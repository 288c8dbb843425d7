"""Flat settings of a configuration, distributed over the dataclasses that group them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from kemr_lightning.core.errors import SettingError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Group = TypeVar("Group", bound=DataclassInstance)


class FlatSettings:
    """Settings by name, as a configuration lists them.

    Take every group out, then call `refuse_rest`.

    Args:
        given: The settings, or None for none.
    """

    def __init__(self, given: Mapping[str, Any] | None) -> None:
        self.left = dict(given or {})
        self.known: list[str] = []

    def take(self, group: type[Group], **defaults: Any) -> Group:
        """Build a group of settings.

        Args:
            group: A dataclass whose fields are named as the settings.
            defaults: Values of fields that are not given, where they differ from the dataclass's own.

        Returns:
            The group; fields that are not given have their defaults.
        """
        names = [field.name for field in fields(group)]
        self.known += names
        return group(**{**defaults, **{name: self.left.pop(name) for name in names if name in self.left}})

    def refuse_rest(self) -> None:
        """Check that every setting belonged to a group.

        Raises:
            SettingError: One did not.
        """
        for name, value in self.left.items():
            close = difflib.get_close_matches(str(name), self.known, 1)
            cure = f"Did you mean {close[0]}?" if close else f"There are {', '.join(sorted(self.known))}"
            raise SettingError(str(name), value, "is not a setting of this model", cure)
