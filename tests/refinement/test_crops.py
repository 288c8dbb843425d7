"""Packing crops end to end."""

from __future__ import annotations

import torch

from kemr_lightning.refinement.crops import Crops, moved


def test_tensors_move_together_and_come_back_as_they_were() -> None:
    shapes = [(3, 4), (), (1, 5), (0, 2)]
    given = [torch.rand(shape) for shape in shapes]
    there = moved(given, "meta")
    assert [(each.device.type, tuple(each.shape)) for each in there] == [("meta", shape) for shape in shapes]
    assert all(a is b for a, b in zip(moved(given, "cpu"), given, strict=True))


def test_crops_are_packed_row_by_row_and_cut_again() -> None:
    levels = [torch.arange(6, dtype=torch.uint8).view(2, 3), torch.full((1, 2), 9, dtype=torch.uint8)]
    probs = [torch.linspace(0, 1, 6).view(2, 3), torch.tensor([[0.25, 0.75]])]
    crops = Crops.pack([levels[0].t(), levels[1]], [probs[0].t(), probs[1]])
    assert crops.sizes == ((3, 2), (1, 2))
    assert crops.areas == [6, 2]
    assert crops.intensity.tolist() == [0, 3, 1, 4, 2, 5, 9, 9]
    first, second = crops.unpack(crops.prob)
    assert torch.equal(first, probs[0].t())
    assert torch.equal(second, probs[1])
    turned = crops.select([1, 0])
    assert turned.sizes == ((1, 2), (3, 2))
    assert turned.intensity.tolist() == [9, 9, 0, 3, 1, 4, 2, 5]
    assert len(Crops.pack([], [])) == 0
