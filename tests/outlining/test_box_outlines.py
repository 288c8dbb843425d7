"""Outlines from the image alone."""

from __future__ import annotations

import numpy as np

from kemr_lightning.outlining.box_outlines import outline_boxes
from kemr_lightning.outlining.settings import OutlineSettings
from tests.outlining.helpers import scene


def test_isolated_rods_are_outlined_and_crossing_ones_are_not() -> None:
    image, boxes, masks = scene()
    found = outline_boxes(image, boxes)
    assert [mask is not None for mask in found.masks] == [True, False, False, True, True, True, True, True]
    for patch, truth in zip(found.masks, masks, strict=True):
        if patch is not None:
            whole = np.zeros_like(truth)
            x0, y0, x1, y1 = patch.window
            whole[y0:y1, x0:x1] = patch.values.numpy()
            assert (whole & truth).sum() / (whole | truth).sum() > 0.75


def test_other_boxes_shrink_as_the_outlined_ones_did() -> None:
    image, boxes, masks = scene()
    found = outline_boxes(image, boxes)
    for index in (1, 2):
        rows, columns = np.nonzero(masks[index])
        tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert np.abs(found.boxes[index] - tight).max() <= 2


def test_a_region_much_smaller_than_its_box_is_not_it() -> None:
    image, boxes, _ = scene()
    boxes[0] += (-20, 0, 0, 0)
    assert outline_boxes(image, boxes).masks[0] is None
    assert outline_boxes(image, boxes, OutlineSettings(loose=40.0)).masks[0] is not None


def test_boxes_beyond_the_image_and_on_empty_ground() -> None:
    image, boxes, _ = scene()
    odd = np.concatenate([boxes, [[-30.0, -30.0, 15.0, 10.0], [190.0, 270.0, 260.0, 340.0]]])
    found = outline_boxes(image, odd)
    assert found.masks[-2:] == [None, None]
    assert (found.boxes[:, 0::2] <= 220).all()
    assert (found.boxes[:, 1::2] <= 300).all()


def test_no_boxes() -> None:
    image, _, _ = scene()
    assert outline_boxes(image, np.zeros((0, 4))).masks == []
