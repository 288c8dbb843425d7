"""Pooling against torchvision's operators."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import roi_align
from torchvision.ops.poolers import LevelMapper

from kemr_lightning.models.pooler import AlignedRoIPooler

STRIDES = [4, 8, 16, 32]


def some_boxes(count: int = 200) -> torch.Tensor:
    corner = torch.rand(count, 2) * 200
    return torch.cat([corner, corner + torch.exp(torch.rand(count, 2) * 6)], dim=1)


def test_levels_are_torchvision_s():
    boxes = torch.cat(
        [some_boxes(), torch.tensor([[0.0, 0, 224, 224], [0, 0, 112, 112], [0, 0, 448, 448], [5, 5, 5, 5]])]
    )
    mapper = LevelMapper(2, 5)
    assert torch.equal(AlignedRoIPooler(7, STRIDES).levels(boxes), mapper([boxes]))


def test_levels_of_small_objects():
    pooler = AlignedRoIPooler(7, [4, 8, 16], canonical_size=56, canonical_stride=4)
    sides = torch.tensor([20.0, 56, 111, 112, 223, 224, 900])
    boxes = torch.stack([sides * 0, sides * 0, sides, sides], dim=1)
    assert pooler.levels(boxes).tolist() == [0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("sampling", [1, 2])
def test_each_box_is_pooled_from_its_level(sampling):
    torch.manual_seed(0)
    features = [torch.rand(2, 3, 256 // stride, 256 // stride) for stride in STRIDES]
    boxes = [some_boxes(30), some_boxes(20)]
    pooler = AlignedRoIPooler(7, STRIDES, sampling)
    pooled = pooler(features, boxes)
    assert pooled.shape == (50, 3, 7, 7)
    for index in range(50):
        image, box = (0, boxes[0][index]) if index < 30 else (1, boxes[1][index - 30])
        level = int(pooler.levels(box[None]))
        roi = torch.cat([torch.tensor([image]), box])[None]
        expected = roi_align(features[level], roi, (7, 7), 1 / STRIDES[level], sampling, aligned=True)
        torch.testing.assert_close(pooled[index], expected[0])


def test_pixels_are_pooled_where_they_are():
    # A ramp: its value at x is x, pixel centres at half. Cells of a box have their centres' values.
    ramp = (torch.arange(32.0) + 0.5).expand(1, 1, 32, 32)
    pooled = AlignedRoIPooler(4, [1], 1)([ramp], [torch.tensor([[8.0, 8, 16, 16]])])
    assert pooled[0, 0, 0].tolist() == pytest.approx([9, 11, 13, 15])
    coarse = torch.nn.functional.avg_pool2d(ramp, 4)
    pooled = AlignedRoIPooler(4, [4], 1)([coarse], [torch.tensor([[8.0, 8, 24, 24]])])
    assert pooled[0, 0, 0].tolist() == pytest.approx([10, 14, 18, 22])


def test_no_boxes():
    features = [torch.rand(1, 3, 8, 8, requires_grad=True) for _ in range(2)]
    pooled = AlignedRoIPooler(7, [4, 8])(features, [torch.zeros(0, 4)])
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
