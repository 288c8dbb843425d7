"""Whole detectors: padding, batches, modes, what they say of themselves."""

from __future__ import annotations

import pytest
import torch

from kemr_lightning.core.contracts import as_detector
from kemr_lightning.models.views import detect_in_views
from tests.models.helpers import picture, rectangles, small_detector


@pytest.mark.parametrize("variant", [None, "mmdetection", "detectron2"])
def test_padding_does_not_change_detections(variant):
    # The ground is what standardising turns into 0, and nothing has a bias yet, so that beyond the image's edge the
    # network sees the same zeros whether it or the batch pads. The best proposals lie on the object.
    torch.manual_seed(5)
    detector = small_detector(variant, class_agnostic=variant is not None, score_threshold=0.0).eval()
    detector.rpn._pre_nms_top_n = {"training": 10, "testing": 10}
    detector.rpn._post_nms_top_n = {"training": 8, "testing": 8}
    torch.nn.init.normal_(detector.rpn.head.cls_logits.weight, std=1.0)
    image = picture(rectangles([(16, 12, 60, 34), (40, 40, 56, 58)], (70, 90)))
    other = picture(rectangles([(30, 90, 80, 120)], (130, 150)))
    with torch.no_grad():
        (alone,) = detector([image])
        together = detector([other, image])[1]
    assert len(alone.boxes) > 0
    for name in ("boxes", "scores", "labels", "grids", "regions"):
        torch.testing.assert_close(getattr(alone, name), getattr(together, name), atol=1e-4, rtol=1e-4)


def test_a_batch_gives_what_its_images_give():
    torch.manual_seed(1)
    detector = small_detector().eval()
    images = [picture(rectangles([(16, 12, 60, 34)], (64, 96))), picture(rectangles([(50, 10, 70, 60)], (64, 96)))]
    with torch.no_grad():
        batch = detector(images)
        for image, together in zip(images, batch, strict=True):
            (alone,) = detector([image])
            torch.testing.assert_close(alone.boxes, together.boxes, atol=1e-3, rtol=0)
            torch.testing.assert_close(alone.grids, together.grids, atol=1e-4, rtol=0)


def test_training_needs_targets():
    with pytest.raises(ValueError, match="targets"):
        small_detector()([torch.rand(1, 64, 64)])


@pytest.mark.parametrize(
    ("variant", "kind"), [(None, "mask_rcnn"), ("mmdetection", "cascade"), ("detectron2", "cascade")]
)
def test_it_says_what_it_is(variant, kind):
    detector = as_detector(small_detector(variant, detections=37))
    assert (detector.kind, detector.max_detections, detector.max_views) == (kind, 37, 8)


def test_views_are_averaged():
    torch.manual_seed(0)
    detector = small_detector(score_threshold=0.0).eval()
    image = picture(rectangles([(16, 12, 60, 34)], (64, 64)))
    with torch.no_grad():
        found, expected = detector.detect_in_views(image, 3), detect_in_views(detector, image, 3)
        (once,) = detector([image])
    assert torch.equal(found.grids, expected.grids)
    assert not torch.equal(found.boxes, once.boxes)


def test_detections_are_sorted_and_limited():
    torch.manual_seed(0)
    detector = small_detector(detections=5, nms_threshold=0.95).eval()
    with torch.no_grad():
        (found,) = detector([torch.rand(1, 96, 96)])
    assert len(found.boxes) == 5
    assert (found.scores.diff() <= 0).all()
