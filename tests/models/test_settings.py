"""Flat settings: each reaches its group, and none is lost."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.models.settings import FlatSettings


@dataclass(frozen=True)
class Length:
    metres: float = 1.0
    exact: bool = False


@dataclass(frozen=True)
class Name:
    first: str = "A"
    last: str | None = None


def test_settings_reach_their_groups() -> None:
    given = {"last": "B", "metres": 2.5}
    flat = FlatSettings(given)
    assert flat.take(Length) == Length(2.5, False)
    assert flat.take(Name) == Name("A", "B")
    flat.refuse_rest()
    assert given == {"last": "B", "metres": 2.5}


def test_a_given_null_is_a_value() -> None:
    assert FlatSettings({"first": None}).take(Name).first is None


def test_other_defaults_yield_to_what_is_given() -> None:
    assert FlatSettings({}).take(Length, metres=7.0).metres == 7.0
    assert FlatSettings({"metres": 3.0}).take(Length, metres=7.0).metres == 3.0


def test_nothing_given() -> None:
    flat = FlatSettings(None)
    assert flat.take(Name) == Name()
    flat.refuse_rest()


def test_what_no_group_knows_is_named_with_what_was_meant() -> None:
    flat = FlatSettings({"metre": 3, "first": "C"})
    flat.take(Length)
    flat.take(Name)
    with pytest.raises(SettingError, match=r"^metre=3 is not a setting of this model\. Did you mean metres\?$"):
        flat.refuse_rest()
    other = FlatSettings({"qqq": None})
    other.take(Length)
    with pytest.raises(SettingError, match=r"^qqq=null is not a setting of this model\. There are exact, metres$"):
        other.refuse_rest()
