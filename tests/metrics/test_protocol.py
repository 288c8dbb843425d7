"""The package's metric keeps to the protocol, and so does one that adds a figure as the protocol's docstring says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from kemr_lightning.metrics.average_precision import average_precision
from kemr_lightning.metrics.protocol import InstanceMetric
from kemr_lightning.metrics.segmentation import HEADLINE, InstanceSegmentationMetric
from tests.metrics.helpers import reference, scene


class WithStrictAP(InstanceSegmentationMetric):
    def compute(self) -> dict[str, Tensor]:
        strict = average_precision(self.records(), masks=True).at(0.9)
        return super().compute() | {"AP90": torch.tensor(strict, dtype=torch.float64)}


def test_a_figure_can_be_added() -> None:
    rng = np.random.default_rng(8)
    images = [scene(rng) for _ in range(6)]
    metric: InstanceMetric = WithStrictAP()
    for number, (predictions, truth) in enumerate(images, 1):
        metric.update([predictions], [truth], [number], ["a.png"])
    figures = metric.compute()
    assert list(figures) == [*HEADLINE, "AP90"]
    precision = reference(images, "segm").eval["precision"][8, :, :, 0, -1]
    assert float(figures["AP90"]) == pytest.approx(100 * precision.mean(), abs=1e-9)
    assert [item.image_id for item in metric.gathered()] == [1, 2, 3, 4, 5, 6]
    metric.reset()
    assert metric.gathered() == []
