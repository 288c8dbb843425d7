"""The blender against loops over instances and cells."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from kemr_lightning.core.geometry import grow_boxes, mask_targets
from kemr_lightning.core.instances import Instances
from kemr_lightning.models.blender import Blender, blend, blend_loss
from tests.models.helpers import rectangles

Plane = npt.NDArray[np.float64]


def at(plane: Plane, x: float, y: float) -> float:
    """Bilinear value of a plane whose cell centres are at whole numbers, held at its border."""
    height, width = plane.shape
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    column, row = min(int(x), width - 2), min(int(y), height - 2)
    right, below = x - column, y - row
    upper = plane[row, column] * (1 - right) + plane[row, column + 1] * right
    lower = plane[row + 1, column] * (1 - right) + plane[row + 1, column + 1] * right
    return float(upper * (1 - below) + lower * below)


def reference(sample: Callable[[int, int, int], float], attention: Plane, size: int) -> Plane:
    """Chen et al. 2020, Eq. 3-6, one cell at a time; ``sample(base, row, column)`` is a base's value in a cell."""
    count, side, _ = attention.shape
    logits = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            x, y = (column + 0.5) * side / size - 0.5, (row + 0.5) * side / size - 0.5
            powers = [math.exp(at(attention[base], x, y)) for base in range(count)]
            logits[row, column] = sum(
                power / sum(powers) * sample(base, row, column) for base, power in enumerate(powers)
            )
    return logits


def test_blend_against_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    bases = torch.randn(3, 4, 12, 12, generator=generator)
    attention = 2 * torch.randn(3, 4, 5, 5, generator=generator)
    found = blend(bases, attention)
    for index in range(3):
        cells = bases[index].numpy()
        expected = reference(lambda base, row, column, c=cells: c[base, row, column], attention[index].numpy(), 12)
        np.testing.assert_allclose(found[index].numpy(), expected, atol=1e-5)


def test_one_base_needs_no_attention() -> None:
    bases = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(blend(bases, torch.randn(2, 1, 4, 4)), bases[:, 0])


def test_predicted_masks_against_loops() -> None:
    """Pooling included: each cell takes the bases at its centre, in image pixels, on the grown box."""
    generator = torch.Generator().manual_seed(1)
    bases = torch.randn(2, 3, 10, 12, generator=generator)
    blender = Blender(stride=4, size=6, growth=0.2, margin=1.0)
    boxes = [torch.tensor([[8.0, 6, 30, 20], [3, 4, 9.5, 33]]), torch.tensor([[20.0, 10, 41, 33]])]
    attention = torch.randn(3, 3, 4, 4, generator=generator)
    grids, regions = blender.predict(bases, boxes, attention)
    assert [tuple(grid.shape) for grid in grids] == [(2, 6, 6), (1, 6, 6)]
    torch.testing.assert_close(regions[1], torch.tensor([[20 - 2.1 - 1, 10 - 2.3 - 1, 41 + 2.1 + 1, 33 + 2.3 + 1]]))
    for index, (image, place) in enumerate(((0, 0), (0, 1), (1, 0))):
        x0, y0, x1, y1 = regions[image][place].tolist()
        planes = bases[image].double().numpy()

        def sample(base: int, row: int, column: int, planes=planes, box=(x0, y0, x1, y1)) -> float:  # type: ignore[no-untyped-def]
            x = box[0] + (column + 0.5) / 6 * (box[2] - box[0])
            y = box[1] + (row + 0.5) / 6 * (box[3] - box[1])
            return at(planes[base], x / 4 - 0.5, y / 4 - 0.5)

        logits = reference(sample, attention[index].double().numpy(), 6)
        np.testing.assert_allclose(grids[image][place].numpy(), 1 / (1 + np.exp(-logits)), atol=1e-5)


def test_centerness_weights_by_hand() -> None:
    logits = torch.tensor([0.0, 0.0, 40.0])[:, None, None].expand(3, 2, 2)
    expected = torch.tensor([1.0, 0.25, 1.0])[:, None, None].expand(3, 2, 2)
    centerness = torch.tensor([0.2, 0.5, 0.3])
    # Cross-entropies log 2, log 2 and 0; the weights sum to 1.
    assert blend_loss(logits, expected, centerness).item() == pytest.approx(0.7 * math.log(2))
    assert blend_loss(logits, expected, centerness / 7).item() == pytest.approx(0.7 * math.log(2))
    wrong = torch.tensor([0.0, 0.0, -40.0])[:, None, None].expand(3, 2, 2)
    assert blend_loss(wrong, expected, centerness).item() == pytest.approx(0.7 * math.log(2) + 0.3 * 40, rel=1e-5)


@pytest.mark.parametrize("binary", [False, True])
def test_loss_against_a_loop_over_locations(binary: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    size = (40, 48)
    targets = [
        rectangles([[4, 4, 20, 11], [10, 2, 17, 36]], size),
        Instances.empty(size),
        rectangles([[30, 5, 44, 20]], size),
    ]
    bases = torch.randn(3, 4, 20, 24, generator=generator)
    matches = [torch.tensor([1, 0, 1, 1]), torch.zeros(0, dtype=torch.int64), torch.tensor([0, 0])]
    attention = torch.randn(6, 4, 3, 3, generator=generator)
    centerness = torch.rand(6, generator=generator)
    blender = Blender(stride=2, size=9, growth=0.3, binary_targets=binary)
    found = blender.loss(bases, targets, attention, matches, centerness)
    total, row = 0.0, 0
    for image, (target, match) in enumerate(zip(targets, matches, strict=True)):
        for truth in match.tolist():
            (grid,), _ = blender.predict(bases[image : image + 1], [target.boxes[[truth]]], attention[row : row + 1])
            wanted = mask_targets(
                target.patches or [], torch.tensor([truth]), grow_boxes(target.boxes[[truth]], 0.3), 9
            )
            wanted = (wanted >= 0.5).float() if binary else wanted
            total += F.binary_cross_entropy(grid, wanted).item() * centerness[row].item()
            row += 1
    assert found.item() == pytest.approx(total / centerness.sum().item(), rel=1e-5)


def test_loss_without_positives() -> None:
    attention = torch.zeros(0, 4, 3, 3, requires_grad=True)
    bases = torch.randn(1, 4, 8, 8, requires_grad=True)
    none = [torch.zeros(0, dtype=torch.int64)]
    loss = Blender(2, 6).loss(bases, [Instances.empty((16, 16))], attention, none, torch.zeros(0))
    assert loss.item() == 0
    loss.backward()
    assert bases.grad is not None
    assert (bases.grad == 0).all()
