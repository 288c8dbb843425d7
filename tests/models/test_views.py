"""Several views of an image against turning masks by hand, and against the symmetry that their average must have."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from kemr_lightning.core.instances import Detections
from kemr_lightning.models.transform import BatchTransform
from kemr_lightning.models.views import VIEWS, detect_in_views
from tests.models.helpers import picture, rectangles, small_detector

SIZE = (32, 48)


def tight_box(mask: Tensor) -> Tensor:
    rows, columns = torch.nonzero(mask, as_tuple=True)
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()[None]


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_boxes_follow_the_pixels(view) -> None:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[3:9, 20:41] = True
    box = tight_box(mask)
    assert torch.equal(view.of_boxes(box, SIZE), tight_box(view.of_image(mask)))
    assert torch.equal(view.from_boxes(view.of_boxes(box, SIZE), SIZE), box)
    image = torch.rand(SIZE)
    assert torch.equal(view.from_image(view.of_image(image)), image)


def test_the_views_are_all_different() -> None:
    image = torch.arange(12.0).reshape(3, 4)
    assert len({tuple(view.of_image(image).flatten().tolist()) for view in VIEWS}) == 8


def detector() -> nn.Module:
    torch.manual_seed(3)
    return small_detector("mmdetection", class_agnostic=True, score_threshold=0.0).eval()


@torch.no_grad()
def test_all_views_of_a_rotated_image_find_the_same_rotated() -> None:
    """Eight views are a group, so their average does not depend on how the image lies."""
    built = detector()
    image = picture(rectangles([(10, 12, 40, 24), (30, 30, 40, 58)], (64, 64)))
    straight = detect_in_views(built, image, 8)
    view = VIEWS[3]
    turned = detect_in_views(built, view.of_image(image), 8)
    assert len(straight.boxes) > 3
    assert len(turned.boxes) == len(straight.boxes)
    back = view.from_boxes(turned.boxes, (64, 64))
    nearest = torch.cdist(straight.boxes, back)
    assert float(nearest.min(dim=1).values.max()) < 0.1
    match = nearest.argmin(dim=1)
    torch.testing.assert_close(turned.scores[match], straight.scores, atol=5e-3, rtol=0)
    torch.testing.assert_close(view.from_image(turned.grids)[match], straight.grids, atol=5e-3, rtol=0)


STANDING, LYING, NARROW, SMALL = [8.0, 8, 56, 56], [9.0, 9, 55, 55], [10.0, 8, 54, 56], [2.0, 2, 6, 6]
"""Boxes of a standing bar, of a lying one that crosses it, of the standing one once more, and of something else."""


class Seen(nn.Module):
    """The image itself as features."""

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        return OrderedDict({"0": images})


def staged(finds: Sequence[Sequence[tuple[list[float], float]]], **settings: object) -> tuple[nn.Module, Tensor]:
    """A detector that finds given boxes with given scores, a list per view, and an image of two crossing bars.

    Its last stage leaves boxes where they are and always says one half. Its masks are the pixels of a box that belong
    to the lying bar if the box is LYING, else to the standing one.
    """
    image = torch.zeros(1, 64, 64)
    image[0, 28:36, 9:55], image[0, 8:56, 28:36] = 0.5, 1.0
    built = small_detector("mmdetection", **settings).eval()
    built.backbone, built.transform = Seen(), BatchTransform(0.0, 1.0)
    views = iter(VIEWS)

    def detect(features: OrderedDict[str, Tensor], batch: object) -> list[Detections]:
        view = next(views)
        here = finds[VIEWS.index(view)]
        boxes = view.of_boxes(torch.tensor([box for box, _ in here]).reshape(-1, 4), (64, 64))
        scores = torch.tensor([score for _, score in here])
        blank = torch.zeros(len(here), 48, 48)
        return [Detections(boxes, scores, torch.ones(len(here), dtype=torch.int64), blank, boxes)]

    def probabilities(features: OrderedDict[str, Tensor], boxes: list[Tensor], labels: object) -> tuple[Tensor, object]:
        (seen,) = features["0"][:, 0]
        grids = []
        for x0, y0, x1, y1 in boxes[0].int().tolist():
            bar = (seen[y0:y1, x0:x1] == (0.5 if x1 - x0 == y1 - y0 == 46 else 1.0)).float()
            grids.append(nn.functional.interpolate(bar[None, None], size=(48, 48))[0, 0])
        return torch.stack(grids)[None], boxes

    built.detect = detect
    built.heads.mask_branch.probabilities = probabilities
    built.heads.judge = lambda features, boxes, labels, size: (torch.zeros(len(boxes), 2), boxes)
    return built, image


@torch.no_grad()
def test_views_unite_as_the_heads_suppress() -> None:
    """Crossing bars in boxes of an IoU of 0.92: boxes keep one, masks keep both and drop what is there twice."""
    finds = [[(STANDING, 0.9), (LYING, 0.8)], [(NARROW, 0.85)]]

    def kept(**settings: object) -> list[list[float]]:
        return detect_in_views(*staged(finds, **settings), 2).boxes.tolist()

    assert kept(nms="box") == [STANDING]
    # The narrow box is a candidate before the lying bar's, and is suppressed after it: twice as many are united.
    masks = {"nms": "mask", "loose_threshold": 0.95, "detections": 2}
    assert kept(**masks) == [STANDING, LYING]
    assert kept(**masks | {"detections": 1}) == [STANDING]
    assert kept(**masks | {"loose_threshold": 0.9}) == [STANDING]
    assert len(kept(**masks | {"detections": 3})) == 2
    assert len(kept(**masks | {"detections": 3, "nms_threshold": 1.0})) == 3


@torch.no_grad()
@pytest.mark.parametrize("nms", ["box", "mask"])
def test_averaged_scores_must_reach_the_threshold_too(nms: str) -> None:
    """Found by one view of two with 0.8, and 0.5 for the last stage: (0.8 / 2 + 0.5) / 2 = 0.45."""
    finds = [[(STANDING, 0.9), (SMALL, 0.8)], [(NARROW, 0.7)]]
    low, high = (detect_in_views(*staged(finds, nms=nms, score_threshold=threshold), 2) for threshold in (0.44, 0.46))
    assert low.scores.tolist() == pytest.approx([(0.8 + 0.5) / 2, 0.45])
    assert low.boxes.tolist() == [STANDING, SMALL]
    assert high.boxes.tolist() == [STANDING]
    assert torch.equal(high.scores, low.scores[:1])
    assert torch.equal(high.grids, low.grids[:1])
