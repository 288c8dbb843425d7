from __future__ import annotations

from typing import Any

import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.tuning.settings import TuneSettings

GIVEN: dict[str, Any] = {
    "source": "val",
    "objective": "MaskAP",
    "trials": 60,
    "timeout": None,
    "storage": "study.journal",
    "chunks": 4,
    "startup": 10,
    "memory_mb": 1024,
}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("source", "all"),
        ("objective", "BoxAP"),
        ("trials", 0),
        ("trials", 1.5),
        ("timeout", 0),
        ("timeout", -1.0),
        ("chunks", 0),
        ("startup", -1),
        ("memory_mb", -1),
        ("memory_mb", True),
    ],
)
def test_values_out_of_range_are_refused_by_name(setting: str, value: Any) -> None:
    with pytest.raises(SettingError) as caught:
        TuneSettings(**{**GIVEN, setting: value})
    assert (caught.value.setting, caught.value.value) == (setting, value)


def test_least_values_are_accepted() -> None:
    settings = TuneSettings(**{**GIVEN, "trials": 1, "timeout": 0.1, "chunks": 1, "startup": 0, "memory_mb": 0})
    assert settings.timeout == 0.1
