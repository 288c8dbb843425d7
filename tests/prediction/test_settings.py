from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from omegaconf import OmegaConf

from kemr_lightning.core.errors import SettingError
from kemr_lightning.prediction.settings import PredictSettings
from kemr_lightning.prediction.tiling import Tiling
from tests.conftest import CONF


def test_the_defaults_are_those_of_the_configuration() -> None:
    configured = OmegaConf.to_container(OmegaConf.load(CONF / "task" / "predict.yaml"))
    assert isinstance(configured, dict)
    assert asdict(PredictSettings()) == configured["predict"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"score": 1.5}, "score=1.5 is not a score. Give a number from 0 to 1"),
        ({"score": -0.1}, "score=-0.1 is not a score. Give a number from 0 to 1"),
        ({"score": None}, "score=null is not a score. Give a number from 0 to 1"),
        ({"expected": -1}, "expected=-1 is not a count. Give a whole number, or null for none"),
        ({"expected": 45.5}, "expected=45.5 is not a count. Give a whole number, or null for none"),
        ({"tile": "large"}, "tile=large is not a size. Give auto, a number of pixels, or null"),
        ({"tile": 1.5}, "tile=1.5 is not a size. Give auto, a number of pixels, or null"),
        ({"tile": True}, "tile=True is not a size. Give auto, a number of pixels, or null"),
        ({"tile": 3}, "tile=3 is too small for a chromosome. Give at least 64 pixels"),
        ({"tile": 800, "overlap": 401}, "overlap=401 is too much for tiles of 800. Give 0 to 400 pixels"),
        ({"overlap": None}, "overlap=null is not a number of pixels. Give a whole number"),
        ({"shape_type": "circle"}, "shape_type=circle is unknown. Use polygon or mask"),
        ({"min_iou": 1.01}, "min_iou=1.01 is not an IoU. Give a number from 0 to 1"),
        ({"crop_scale": 0}, "crop_scale=0 is out of range. Give 0.05 to 20"),
        ({"report_side": 63}, "report_side=63 is too small to see anything. Give at least 64"),
    ],
)
def test_values_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as error:
        PredictSettings(**values)
    assert str(error.value) == message
    # The configuration's name comes in front.
    assert str(error.value.under("predict")) == f"predict.{message}"


@pytest.mark.parametrize(
    "values",
    [
        {"score": 0, "min_iou": 1, "expected": 0},
        {"score": 1.0, "min_iou": 0.0, "expected": None},
        {"tile": 64, "overlap": 32, "crop_scale": 20, "report_side": 64},
        {"tile": None, "overlap": 5000, "crop_scale": 0.05},
    ],
)
def test_values_at_the_ends_of_their_ranges(values: dict[str, Any]) -> None:
    assert asdict(PredictSettings(**values)) == {**asdict(PredictSettings()), **values}


def test_tiles_follow_the_model_unless_their_side_is_given() -> None:
    usual = Tiling(1536, 384)
    assert PredictSettings().tiling(usual) == usual
    assert PredictSettings().tiling(None) is None
    assert PredictSettings(overlap=100).tiling(usual) == Tiling(1536, 100)
    assert PredictSettings(tile=800, overlap=100).tiling(None) == Tiling(800, 100)
    assert PredictSettings(tile=None).tiling(usual) is None
    with pytest.raises(SettingError, match=r"overlap=769 is too much for tiles of 1536"):
        PredictSettings(overlap=769).tiling(usual)
