"""Errors for users: what they say, and how a setting gets the name it has in the configuration."""

from __future__ import annotations

import hydra
import pytest

from kemr_lightning.core.errors import SettingError, UserError, cause_of, settings_under


def wrong(value: object = 3) -> None:
    """Raises the error of a wrong ``side``."""
    raise SettingError("side", value, "is not a size", "Give a number above 8")


@settings_under("inner")
def wrong_inside() -> None:
    wrong()


def test_the_line() -> None:
    error = SettingError("side", 3, "is not a size", "Give a number above 8")
    assert str(error) == "side=3 is not a size. Give a number above 8"
    assert str(SettingError("side", None, "is not a size", "Give one")) == "side=null is not a size. Give one"
    assert isinstance(error, UserError)


def test_names_in_a_configuration() -> None:
    error = SettingError("side", 3, "is not a size", "Give one")
    assert str(error.under("predict")) == "predict.side=3 is not a size. Give one"
    assert str(error.under("predict", side="tile")) == "predict.tile=3 is not a size. Give one"
    assert str(error.under("", side="tile")) == "tile=3 is not a size. Give one"
    assert str(error.under("heads").under("model")) == "model.heads.side=3 is not a size. Give one"
    assert (error.under("predict").value, error.under("predict").cure) == (3, "Give one")


def test_settings_are_renamed_on_the_way() -> None:
    with pytest.raises(SettingError, match=r"^predict\.tile=3 is") as caught, settings_under("predict", side="tile"):
        wrong()
    assert isinstance(caught.value.__cause__, SettingError)
    with pytest.raises(SettingError, match=r"^outer\.inner\.side=3 is"), settings_under("outer"):
        wrong_inside()


def test_causes_are_searched_through_hydra() -> None:
    nested = {"_target_": "builtins.dict", "part": {"_target_": "tests.core.test_errors.wrong_inside"}}
    with pytest.raises(SettingError, match=r"^model\.inner\.side=3 is not a size"), settings_under("model"):
        hydra.utils.instantiate(nested)


def test_other_errors_pass() -> None:
    with pytest.raises(UserError, match=r"^a file$"), settings_under("model"):
        raise UserError("a file")
    with pytest.raises(ZeroDivisionError), settings_under("model"):
        _ = 1 / 0


def test_the_first_cause_of_a_kind() -> None:
    inner, outer = SettingError("a", 1, "is wrong", "Mend it"), RuntimeError("wrapped")
    outer.__cause__ = inner
    assert cause_of(outer) is inner
    assert cause_of(outer, SettingError) is inner
    assert cause_of(inner) is inner
    assert cause_of(RuntimeError("alone")) is None
    plain = UserError("plain")
    plain.__cause__ = inner
    assert cause_of(plain) is plain
    assert cause_of(plain, SettingError) is inner


def test_an_empty_name_stands_for_the_group() -> None:
    error = SettingError("ranges", {}, "has no range", "Give one")
    assert error.under("search", ranges="").setting == "search"
    assert error.under("", ranges="search").setting == "search"
