"""Images with more instances than are scored or found are named before a training, with the settings to change."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from kemr_lightning.assembly.annotation_notices import (
    found_key,
    found_limit,
    scored_limit,
    tell_of_limits,
    tell_of_regions,
)
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.dataset import SampleDataset
from kemr_lightning.data.image import IntensityImage
from kemr_lightning.data.record import Record
from tests.conftest import compose


def data_of(count: int, crowds: int = 0) -> SegmentationDataModule:
    shapes = [Annotation("a", box=(0, 0, 1, 1))] * count + [Annotation("a", box=(0, 0, 1, 1), crowd=True)] * crowds
    record = Record("a.png", Path("a.png"), lambda: IntensityImage(np.zeros((2, 2), dtype=np.uint8)), tuple(shapes))
    module = SegmentationDataModule("x")
    module.train = SampleDataset([record], ["a"])
    return module


@pytest.mark.parametrize("model", ["cascade_mask_rcnn_tiny", "mask_rcnn_r101", "blendmask_tiny", "blendmask_r101"])
def test_the_limits_of_every_model_are_settings(model: str) -> None:
    config = compose(f"model={model}")
    assert (found_limit(config), scored_limit(config)) == (100, 100)
    assert found_key(config) == ("model.detections" if "blend" in model else "model.heads.detections")


def test_what_exceeds_a_limit_is_told_with_the_settings(caplog: pytest.LogCaptureFixture) -> None:
    config = compose()
    with caplog.at_level(logging.WARNING):
        tell_of_limits(config, data_of(100, crowds=9), 100, "model.heads.detections")
        tell_of_limits(config, cast(SegmentationDataModule, SimpleNamespace()), 1, "x")
        assert not caplog.messages
        tell_of_limits(config, data_of(120), 100, "model.heads.detections")
        tell_of_limits(compose("metric.max_detections=120"), data_of(120), 110)
    scored, found, trained = caplog.messages
    assert "a.png has 120 instances, and AP counts 100 detections" in scored
    assert "metric.max_detections=120 counts all" in scored
    assert "the model finds at most 100 in an image. model.heads.detections=240 lets it find more" in found
    assert trained.endswith("the model finds at most 110 in an image. Train one with more")


def test_regions_and_groups_are_told_with_the_settings(caplog: pytest.LogCaptureFixture) -> None:
    def corners(x: float) -> np.ndarray:
        return np.array([[x, 0], [x + 9, 0], [x + 9, 9], [x, 9]], dtype=float)

    brush = Annotation("a", patches=(Patch(0, 0, torch.ones((9, 9), dtype=torch.bool)),), crowd=True)
    pair = Annotation("a", polygons=(corners(0), corners(90)), group_id=1)
    module = data_of(0)
    assert module.train is not None
    record = module.train.records[0]
    with caplog.at_level(logging.INFO):
        tell_of_regions(module)
        tell_of_regions(SimpleNamespace())
        assert not caplog.messages
        module.train.records = [replace(record, annotations=(brush, pair))]
        tell_of_regions(module)
    ignored, drawn, far = caplog.messages
    assert ignored.startswith("train: 1 annotations are regions to ignore")
    assert "1 of 2 annotations are crowds" in drawn
    assert "data.crowds=instances keeps them" in drawn
    assert "in 1 of 1 groups the shapes lie far apart" in far
    assert "data.groups=separate" in far
