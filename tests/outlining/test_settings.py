"""Settings of outlining."""

from __future__ import annotations

import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.outlining.settings import OutlineSettings


@pytest.mark.parametrize(("name", "value"), [("loose", -1.0), ("tight", float("nan")), ("score", 1.5), ("iou", -0.1)])
def test_values_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(SettingError, match=name):
        OutlineSettings(**{name: value})
