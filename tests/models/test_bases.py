"""Bases and the auxiliary semantic segmentation against hand-worked numbers."""

from __future__ import annotations

import math

import pytest
import torch

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.models.bases import BasisDecoder, SemanticHead, semantic_loss, semantic_targets
from tests.models.helpers import rectangles


def test_bases_are_twice_as_fine_as_the_finest_level() -> None:
    decoder = BasisDecoder(8, levels=3, width=4, convs=1, bases=5, groups=2)
    levels = [torch.rand(2, 8, *size) for size in ((10, 14), (5, 7), (3, 4), (2, 2))]
    assert decoder(levels).shape == (2, 5, 20, 28)


def test_decoder_with_a_fine_map() -> None:
    decoder = BasisDecoder(8, levels=1, width=4, convs=0, bases=2, groups=2, fine_channels=3, fine_width=6)
    fine = torch.rand(1, 3, 8, 8)
    bases = decoder([torch.rand(1, 8, 4, 4)], fine)
    assert bases.shape == (1, 2, 8, 8)
    with pytest.raises(ValueError, match="fine map"):
        decoder([torch.rand(1, 8, 4, 4)])


def test_decoder_adds_enlarged_levels() -> None:
    decoder = BasisDecoder(2, levels=2, width=2, convs=0, bases=2, groups=1)
    decoder.lateral[0], decoder.lateral[1] = torch.nn.Identity(), torch.nn.Identity()
    decoder.output = torch.nn.Sequential()
    fine, coarse = torch.zeros(1, 2, 2, 4), torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2).expand(1, 2, 1, 2)
    # Two cells over four: centres at 1/4 and 3/4 between those of the coarse cells; then again over eight.
    row = torch.tensor([0, 0, 0.0625, 0.1875, 0.375, 0.625, 0.8125, 0.9375, 1, 1])[1:9]
    found = decoder([fine, coarse])
    assert found.shape == (1, 2, 4, 8)
    torch.testing.assert_close(found[0, 0, 0], row)


def test_semantic_targets_by_hand() -> None:
    """Cells of 4 pixels: classes that cross, one class twice, an even part, padding."""
    ones = torch.ones
    size = (4, 12)
    target = Instances(
        size,
        torch.zeros(5, 4),
        ones(5),
        torch.tensor([1, 2, 3, 3, 2]),
        [
            Patch(0, 0, ones(2, 4, dtype=torch.bool)),  # cell 0: upper half, class 1
            Patch(0, 0, ones(4, 2, dtype=torch.bool)),  # cell 0: left half, class 2
            Patch(4, 0, ones(4, 2, dtype=torch.bool)),  # cell 1: columns 0-1, class 3
            Patch(5, 0, ones(4, 2, dtype=torch.bool)),  # cell 1: columns 1-2, class 3 too
            Patch(8, 0, ones(4, 1, dtype=torch.bool)),  # cell 2: a quarter, class 2
        ],
    )
    found = semantic_targets(target, 3, (2, 4), 4)
    assert found.shape == (4, 2, 4)
    assert found[:, 0, 0].tolist() == pytest.approx([4 / 16, 6 / 16, 6 / 16, 0])  # 12 pixels covered, halves equal
    assert found[:, 0, 1].tolist() == pytest.approx([1 / 4, 0, 0, 3 / 4])
    assert found[:, 0, 2].tolist() == pytest.approx([3 / 4, 0, 1 / 4, 0])
    assert found[:, 0, 3].tolist() == [1, 0, 0, 0]
    assert found[:, 1].T.tolist() == [[1, 0, 0, 0]] * 4
    torch.testing.assert_close(found.sum(dim=0), ones(2, 4))


def test_semantic_targets_without_objects() -> None:
    found = semantic_targets(Instances.empty((8, 8)), 2, (2, 2), 4)
    assert found.tolist() == [[[1, 1], [1, 1]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]


def test_semantic_loss_by_hand() -> None:
    target = rectangles([[0, 0, 4, 4]], (4, 8), [2])
    even = torch.zeros(1, 25, 1, 2)
    assert semantic_loss(even, [target], 4).item() == pytest.approx(math.log(25))
    right = torch.full((1, 25, 1, 2), -30.0)
    right[0, 2, 0, 0] = right[0, 0, 0, 1] = 30.0
    assert semantic_loss(right, [target], 4).item() == pytest.approx(0, abs=1e-6)


def test_images_with_boxes_only_do_not_count() -> None:
    masks = rectangles([[0, 0, 4, 4]], (4, 4))
    boxes = rectangles([[0, 0, 4, 4]], (4, 4))
    boxes.patches = None
    logits = torch.randn(2, 2, 1, 1, requires_grad=True)
    loss = semantic_loss(logits, [boxes, masks], 4)
    torch.testing.assert_close(loss, semantic_loss(logits[1:], [masks], 4))
    nothing = semantic_loss(logits, [boxes, boxes], 4)
    assert nothing.item() == 0
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert (gradient == 0).all()


def test_semantic_head_has_a_background_channel() -> None:
    assert SemanticHead(8, 24, 4, 2)(torch.rand(1, 8, 3, 5)).shape == (1, 25, 3, 5)
