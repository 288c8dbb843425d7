"""Boxes on regions to ignore are no background: measured on masks, and without a loss in both kinds of detectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.models.ignored import on_ignored

SIZE = (40, 60)


def with_region(*patches: Patch) -> Instances:
    boxes = torch.tensor([patch.window for patch in patches], dtype=torch.float32)
    ones = torch.ones(len(patches))
    return replace(Instances.empty(SIZE), ignored=Instances(SIZE, boxes, ones, ones.long(), list(patches)))


def test_half_of_a_box_or_more() -> None:
    target = with_region(Patch(10, 10, torch.ones((10, 20), dtype=torch.bool)))
    boxes = torch.tensor(
        [[10, 10, 30, 20], [20, 10, 40, 20], [21, 10, 41, 20], [0, 0, 60, 40], [12, 12, 14, 14], [-20, 10, 20, 20]]
    ).float()
    assert on_ignored(target, boxes).tolist() == [True, True, False, False, True, True]
    assert not on_ignored(Instances.empty(SIZE), boxes).any()
    assert on_ignored(target, boxes[:0]).shape == (0,)


def test_regions_are_measured_by_their_masks_as_counting_pixels_does() -> None:
    rng = np.random.default_rng(0)
    masks = [torch.from_numpy(rng.random((20, 30)) > 0.5) for _ in range(2)]
    target = with_region(Patch(5, 5, masks[0]), Patch(20, 15, masks[1]))
    covered = np.zeros(SIZE, dtype=bool)
    covered[5:25, 5:35] |= masks[0].numpy()
    covered[15:35, 20:50] |= masks[1].numpy()
    corners = np.sort(rng.integers(0, 40, (200, 2, 2)), axis=1).astype(float)
    boxes = torch.from_numpy(corners.reshape(-1, 4)).float()
    expected = []
    for x0, y0, x1, y1 in boxes.int().tolist():
        window = covered[y0:y1, x0:x1]
        expected.append(bool(window.sum() >= 0.5 * max(window.size, 1)))
    assert on_ignored(target, boxes).tolist() == expected


@pytest.mark.parametrize("device", ["cpu"])
def test_probabilities_are_thresholded(device: str) -> None:
    target = with_region(Patch(0, 0, torch.full((4, 4), 0.4)))
    assert not on_ignored(target, torch.tensor([[0.0, 0.0, 4.0, 4.0]], device=device)).any()
