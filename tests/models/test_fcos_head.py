"""The head against torchvision's own parts, a dense convolution, a brute-force assignment and hand-worked numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.image_list import ImageList

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.models.fcos_head import AttentionFCOSHead, neighbourhoods, per_location
from tests.models.helpers import rectangles

SIZES = ((6, 7), (3, 4), (1, 2))  # levels of odd sizes


def head(num_classes: int = 2) -> AttentionFCOSHead:
    torch.manual_seed(0)
    return AttentionFCOSHead(8, num_classes, convs=1, groups=2, bases=3, attention_size=2)


def levels(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 8, *size, generator=generator) for size in SIZES]


def test_predictions_are_those_of_torchvisions_heads() -> None:
    model, maps = head(), levels()
    found = model(maps).predictions
    boxes, centerness = model.regression_head(maps)
    torch.testing.assert_close(found["cls_logits"], model.classification_head(maps))
    torch.testing.assert_close(found["bbox_regression"], boxes)
    torch.testing.assert_close(found["bbox_ctrness"], centerness)


def test_attention_at_single_locations_is_that_of_the_whole_convolution() -> None:
    model, maps = head(), [level.requires_grad_() for level in levels()]
    towers = model(maps).towers
    dense = torch.cat([per_location(model.attention(tower)) for tower in towers], dim=1)
    total = sum(height * width for height, width in SIZES)
    image = torch.arange(2).repeat_interleave(total)
    location = torch.arange(total).repeat(2)
    order = torch.randperm(2 * total, generator=torch.Generator().manual_seed(2))
    found = model.attend(towers, image[order], location[order])
    assert found.shape == (2 * total, 3, 2, 2)
    torch.testing.assert_close(found.flatten(1), dense.flatten(0, 1)[order])
    weights = torch.rand(found.flatten(1).shape, generator=torch.Generator().manual_seed(3))
    parameters = [*model.attention.parameters(), *maps]
    sparse_gradients = torch.autograd.grad((found.flatten(1) * weights).sum(), parameters, retain_graph=True)
    dense_gradients = torch.autograd.grad((dense.flatten(0, 1)[order] * weights).sum(), parameters)
    for mine, reference in zip(sparse_gradients, dense_gradients, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-5, rtol=1e-4)


def test_neighbourhood_by_hand() -> None:
    first = torch.arange(6.0).reshape(1, 1, 2, 3)
    second = torch.tensor([[[[10.0]]]])
    found = neighbourhoods([first, second], torch.zeros(3, dtype=torch.int64), torch.tensor([0, 4, 6]))
    assert found[:, 0].tolist() == [
        [[0, 0, 0], [0, 0, 1], [0, 3, 4]],
        [[0, 1, 2], [3, 4, 5], [0, 0, 0]],
        [[0, 0, 0], [0, 10, 0], [0, 0, 0]],
    ]


def test_centerness_by_hand() -> None:
    anchors = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8], [2, 2, 6, 6]])  # all centred at (4, 4)
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 10, 8], [3, 2, 12, 8]])
    # Distances to left, top, right, bottom: 4 4 4 4; 4 4 6 4; 1 2 8 4.
    expected = [1.0, math.sqrt(4 / 6), math.sqrt(1 / 8 * 2 / 4)]
    assert head().centerness(anchors, boxes).tolist() == pytest.approx(expected)


def assigned_by_hand(points: list[tuple[float, float, float, int]], boxes: Tensor, radius: float) -> list[int]:
    """FCOS' rules, one point and box at a time; points are ``(x, y, size, level)`` with three levels."""
    result = []
    for x, y, size, level in points:
        best, smallest = -1, math.inf
        for index, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            sides = (x - x0, y - y0, x1 - x, y1 - y)
            central = max(abs(x - (x0 + x1) / 2), abs(y - (y0 + y1) / 2)) < radius * size
            low, high = (0 if level == 0 else 4 * size), (math.inf if level == 2 else 8 * size)
            area = (x1 - x0) * (y1 - y0)
            if min(sides) > 0 and central and low < max(sides) < high and area < smallest:
                best, smallest = index, area
        result.append(best)
    return result


def test_assignment_and_losses_are_torchvisions() -> None:
    torch.manual_seed(0)
    size = (96, 112)
    backbone = torch.nn.Identity()
    backbone.out_channels = 8
    generator = AnchorGenerator(((4,), (8,), (16,)), ((1.0,),) * 3)
    ours = FCOS(backbone, 2, anchor_generator=generator, head=head())
    plain_head = FCOSHead(8, 1, 2, num_convs=0)
    plain = FCOS(backbone, 2, anchor_generator=generator, head=plain_head)
    maps = [torch.randn(2, 8, size[0] // stride, size[1] // stride) for stride in (4, 8, 16)]
    anchors = generator(ImageList(torch.zeros(2, 1, *size), [size, size]), maps)
    counts = [level.shape[-2] * level.shape[-1] for level in maps]
    # Narrow ones, nested ones, a long one for the second level, one for the third; areas differ by more than 8 px,
    # torchvision's resolution (it compares 1e8 - area in float32).
    boxes = [[3, 5, 15, 41], [20, 20, 32, 30], [16, 14, 40, 44], [50, 2, 62, 78], [10, 8, 108, 92]]
    target = rectangles(boxes, size, [1, 2, 1, 2, 1])
    targets = [
        {"boxes": target.boxes, "labels": target.labels - 1},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    outputs = ours.head(maps).predictions
    found = ours.compute_loss(targets, outputs, anchors, counts)
    matches = found.pop("matches")
    reference = plain.compute_loss(targets, outputs, anchors, counts)
    assert found.keys() == reference.keys()
    for name, value in reference.items():
        torch.testing.assert_close(found[name], value)
    points = [
        (column * stride, row * stride, stride, level)
        for level, stride in enumerate((4, 8, 16))
        for row in range(size[0] // stride)
        for column in range(size[1] // stride)
    ]
    expected = assigned_by_hand(points, target.boxes, 1.5)
    assert matches[0].tolist() == expected
    assert set(expected) == {-1, 0, 1, 2, 3, 4}
    assert (matches[1] == -1).all()


def test_background_on_ignored_regions_has_no_loss_and_no_gradient() -> None:
    ours = head(1)
    anchors = [torch.tensor([[x, y, x + 8, y + 8] for y in (0, 8) for x in (0, 8)]).float()]
    patch = Patch(8, 8, torch.ones((8, 8), dtype=torch.bool))
    ignored = Instances((16, 16), torch.tensor([[8.0, 8.0, 16.0, 16.0]]), torch.ones(1), torch.ones(1).long(), [patch])
    nothing = Instances.empty((16, 16))
    matches = [torch.full((4,), -1)]

    def gradient(target: Instances) -> torch.Tensor:
        logits = torch.zeros((1, 4, 1), requires_grad=True)
        outputs = {
            "cls_logits": logits,
            "bbox_regression": torch.zeros((1, 4, 4)),
            "bbox_ctrness": torch.zeros((1, 4, 1)),
        }
        wanted = [{"boxes": target.boxes, "labels": target.labels, "instances": target}]
        ours.compute_loss(wanted, outputs, anchors, matches)["classification"].backward()
        assert logits.grad is not None
        return logits.grad[0, :, 0]

    assert (gradient(nothing) > 0).tolist() == [True] * 4
    assert (gradient(replace(nothing, ignored=ignored)) > 0).tolist() == [True, True, True, False]
