"""Several views of an image against turning masks by hand, and against the symmetry that their average must have."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kemr_lightning.errors import UserError
from kemr_lightning.models.views import VIEWS, detect_in_views
from kemr_lightning.module import SegmentationModule
from tests.models.small import picture, rectangles, small_detector

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
def test_all_views_of_a_turned_image_find_the_same_turned() -> None:
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


@torch.no_grad()
def test_one_view_is_the_detector_itself_and_more_are_not() -> None:
    module = SegmentationModule(detector()).eval()
    image = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(1))
    (once,) = module._look([image])
    (plain,) = module.detector([image])
    assert torch.equal(once.boxes, plain.boxes)
    module.look_in(4)
    (averaged,) = module._look([image])
    assert not torch.equal(averaged.boxes, plain.boxes)
    assert bool((averaged.scores.diff() <= 0).all())


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="views=9"):
        SegmentationModule(detector()).look_in(9)
    with pytest.raises(UserError, match="Identity looks at an image once"):
        SegmentationModule(nn.Identity()).look_in(4)
