"""What metaphases are to look like: checks and defaults."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.synthetic.settings import MetaphaseSettings, default_count, default_width


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"look": "blue"}, "look"),
        ({"look": "dapi"}, "look"),
        ({"look": "blue", "scene": "clinical"}, "look"),
        ({"scene": "messy"}, "scene"),
        ({"size": None}, "size"),
        ({"size": (32, 32)}, "size"),
        ({"size": (320, 63)}, "size"),
        ({"size": (320,)}, "size"),
        ({"size": 320}, "size"),
        ({"overlap": 2.0}, "overlap"),
        ({"overlap": -0.1}, "overlap"),
        ({"count": [9, 3]}, "count"),
        ({"count": -1}, "count"),
        ({"count": "all"}, "count"),
        ({"width": 200.0}, "width"),
        ({"width": 3.9}, "width"),
        ({"width": [20.0, 10.0]}, "width"),
        ({"width": []}, "width"),
        ({"width": "wide"}, "width"),
        ({"width": [10.0, 101.0], "size": None, "scene": "clinical"}, "width"),
    ],
)
def test_wrong_settings_name_themselves(options: dict[str, Any], setting: str) -> None:
    with pytest.raises(SettingError, match=f"^{setting}=") as raised:
        MetaphaseSettings(**options)
    assert raised.value.setting == setting


def test_settings_are_read_in_both_orders() -> None:
    assert MetaphaseSettings((320, 256)).image_size == (256, 320)
    assert MetaphaseSettings().count_range is None
    assert MetaphaseSettings(count=7).count_range == (7, 7)
    assert MetaphaseSettings(count=[7]).count_range == (7, 7)
    assert MetaphaseSettings(count=np.int64(7)).count_range == (7, 7)
    assert MetaphaseSettings(count=[3, 9]).count_range == (3, 9)
    assert MetaphaseSettings(width=[12]).width_range == (12, 12)
    with pytest.raises(ValueError, match="no common size"):
        _ = MetaphaseSettings(None, scene="clinical").image_size


def test_default_width_and_count_follow_the_size() -> None:
    widths = [default_width(size) for size in ((1024, 1280), (576, 768), (256, 320))]
    assert widths == pytest.approx([22, 12, 9], abs=0.02)
    assert default_count((1024, 1280), 22) == default_count((576, 768), 12) == 46
    # A chromosome needs 58 squares of its width: 320 x 256 / (81 x 58) = 17.4.
    assert default_count((256, 320), 9) == 17
    assert default_count((64, 64), 16) == 1


def test_widths_are_drawn_from_a_range_only() -> None:
    rng = np.random.default_rng(0)
    assert MetaphaseSettings((320, 256)).draw_width(rng) == default_width((256, 320))
    assert MetaphaseSettings(width=11.5).draw_width(rng) == 11.5
    assert rng.random() == np.random.default_rng(0).random()
    drawn = [MetaphaseSettings(width=(8, 32)).draw_width(rng) for _ in range(400)]
    assert min(drawn) >= 8
    assert max(drawn) <= 32
    # On a logarithmic axis, 16 lies in the middle.
    assert np.median(drawn) == pytest.approx(16, rel=0.15)
