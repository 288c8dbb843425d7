"""Settings of the doctor that make no sense are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.doctor.settings import DoctorSettings


def test_no_count_may_be_expected() -> None:
    assert DoctorSettings(expected=None).expected is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("expected", -1), ("expected", "many"), ("count_margin", None), ("pictures", 1.5), ("listed", True)]
    + [("anchor_misfits", value) for value in (-0.1, 1.1, "few")],
)
def test_wrong_values_are_named(name: str, value: Any) -> None:
    with pytest.raises(SettingError) as caught:
        DoctorSettings(**{name: value})
    assert caught.value.setting == name
