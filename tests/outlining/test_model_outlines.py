"""Masks of a model that agree with boxes."""

from __future__ import annotations

import numpy as np
import torch

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.data.annotation import instances_from_patches, tight_patch
from kemr_lightning.outlining.box_outlines import outline_boxes
from kemr_lightning.outlining.model_outlines import adopt_masks
from kemr_lightning.outlining.settings import OutlineSettings
from tests.outlining.helpers import scene


def predicted(masks: list[np.ndarray], scores: list[float]) -> Instances:
    patches = [tight_patch(mask, 0, 0) for mask in masks]
    found = instances_from_patches([patch for patch in patches if patch is not None], [1] * len(masks), (300, 220))
    found.scores = torch.tensor(scores)
    return found


def test_crossing_rods_get_the_masks_that_agree() -> None:
    image, boxes, masks = scene()
    found = outline_boxes(image, boxes)
    adopted = adopt_masks(found, predicted([masks[2], masks[1]], [0.9, 0.8]))
    assert all(mask is not None for mask in adopted)
    assert isinstance(adopted[1], Patch)
    assert adopted[1].window == (40, 60, 52, 140)
    assert adopted[2] is not None
    assert adopted[2].window == (20, 95, 90, 107)


def test_masks_from_the_image_are_kept() -> None:
    image, boxes, masks = scene()
    found = outline_boxes(image, boxes)
    assert adopt_masks(found, predicted([masks[0]], [0.9]))[0] is found.masks[0]


def test_a_mask_has_to_be_likely_of_the_box_and_stained() -> None:
    image, boxes, masks = scene()
    found = outline_boxes(image, boxes)
    half = masks[1].copy()
    half[100:] = False
    around = np.zeros_like(masks[1])
    around[60:140, 34:58] = True
    for mask, score, settings in (
        (masks[1], 0.2, OutlineSettings()),
        (half, 0.9, OutlineSettings()),
        (around, 0.9, OutlineSettings(iou=0.3)),
    ):
        assert adopt_masks(found, predicted([mask], [score]), settings)[1] is None


def test_nothing_predicted() -> None:
    image, boxes, _ = scene()
    found = outline_boxes(image, boxes)
    assert adopt_masks(found, Instances.empty((300, 220))) == found.masks
