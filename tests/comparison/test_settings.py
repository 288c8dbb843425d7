"""Settings of a comparison are checked before anything is trained."""

from __future__ import annotations

from typing import Any

import pytest

from kemr_lightning.comparison.settings import CompareSettings
from kemr_lightning.core.errors import SettingError


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("cascade_from_kemr", "perhaps", "auto, always, never"),
        ("resamples", -1, "whole number"),
        ("resamples", 2.5, "whole number"),
        ("crops", "many", "whole number"),
        ("time_images", True, "whole number"),
        ("time_images", None, "whole number"),
        ("level", 95, "between 0 and 1"),
        ("level", 0.0, "between 0 and 1"),
        ("level", "high", "between 0 and 1"),
    ],
)
def test_wrong_values_are_refused(name: str, value: Any, cure: str) -> None:
    with pytest.raises(SettingError, match=cure) as caught:
        CompareSettings(**{name: value})
    assert (caught.value.setting, caught.value.value) == (name, value)
