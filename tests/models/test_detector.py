"""Whole detectors: padding, batches, modes."""

from __future__ import annotations

import pytest
import torch

from kemr_lightning.models.detector import batch_images
from tests.models.helpers import picture, rectangles, small_detector


def test_images_are_standardised_and_padded_with_their_border():
    one, two = torch.full((1, 33, 20), 0.7), torch.full((1, 10, 40), 0.2)
    one[0, 10, 10] = 0.0
    batch = batch_images([one, two], 32, 0.2, 0.25)
    assert batch.tensors.shape == (2, 1, 64, 64)
    assert batch.image_sizes == [(33, 20), (10, 40)]
    torch.testing.assert_close(batch.tensors[0, 0, :33, :20], (one[0] - 0.2) / 0.25)
    torch.testing.assert_close(batch.tensors[0, 0, 33:], torch.full((31, 64), 2.0))
    torch.testing.assert_close(batch.tensors[0, 0, :, 20:], torch.full((64, 44), 2.0))
    torch.testing.assert_close(batch.tensors[1, 0], torch.zeros(64, 64))


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


def test_limit_is_known():
    assert small_detector(detections=37).max_detections == 37


def test_detections_are_sorted_and_limited():
    torch.manual_seed(0)
    detector = small_detector(detections=5, nms_threshold=0.95).eval()
    with torch.no_grad():
        (found,) = detector([torch.rand(1, 96, 96)])
    assert len(found.boxes) == 5
    assert (found.scores.diff() <= 0).all()
