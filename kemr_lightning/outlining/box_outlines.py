"""Outlines for annotated boxes, from the image alone: a chromosome that touches no other is a stained region."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from kemr_lightning.core.instances import Patch
from kemr_lightning.data.stain import stained
from kemr_lightning.data.warp import Image
from kemr_lightning.outlining.settings import OutlineSettings

Boxes = npt.NDArray[np.float64]
"""``(N, 4)`` float64 boxes ``(x0, y0, x1, y1)`` in pixels."""

SMALLEST = 30
"""Least area of a chromosome, in pixels; smaller regions are dirt."""

ENOUGH = 5
"""How many outlined boxes of an image tell by how much its boxes are too large."""


@dataclass(frozen=True)
class BoxOutlines:
    """What an image says about its boxes.

    Attributes:
        masks: The mask of each box whose region no other box shares, else None.
        boxes: The boxes made tight: around the mask, or shrunk by as much as the others of the image are too large.
        stain: ``(H, W)`` bool, where the image is stained.
    """

    masks: list[Patch | None]
    boxes: Boxes
    stain: npt.NDArray[np.bool_]


def outline_boxes(image: Image, boxes: Boxes, settings: OutlineSettings | None = None) -> BoxOutlines:
    """Outline the boxes whose chromosomes touch no other, and tighten the rest.

    Each box belongs to the stained region that has most pixels in it. A region that belongs to one box, and fits into
    it up to `OutlineSettings.loose` and `OutlineSettings.tight` pixels on each side, is that box's chromosome.

    Args:
        image: ``(H, W)`` uint8.
        boxes: They may be too large, and reach beyond the image.
        settings: None for the defaults.

    Returns:
        Masks and tight boxes, in the order of ``boxes``.
    """
    settings = settings or OutlineSettings()
    height, width = image.shape
    boxes = np.stack([boxes[:, 0::2].clip(0, width), boxes[:, 1::2].clip(0, height)], axis=2).reshape(-1, 4)
    stain = stained(image)
    regions, _ = ndimage.label(stain, np.ones((3, 3)))
    windows = ndimage.find_objects(regions)
    owners: dict[int, list[int]] = {}
    for index, box in enumerate(boxes):
        owners.setdefault(_region_of(regions, box), []).append(index)
    masks: list[Patch | None] = [None] * len(boxes)
    margins = []
    for region, indices in owners.items():
        if region == 0 or len(indices) > 1:
            continue
        rows, columns = windows[region - 1]
        tight = np.array([columns.start, rows.start, columns.stop, rows.stop], dtype=np.float64)
        margin = (tight - boxes[indices[0]]) * (1, 1, -1, -1)
        if margin.min() < -settings.tight or margin.max() > settings.loose:
            continue
        mask = ndimage.binary_fill_holes(regions[rows, columns] == region)
        if mask.sum() < SMALLEST:
            continue
        masks[indices[0]] = Patch(columns.start, rows.start, torch.from_numpy(mask))
        margins.append(margin)
    usual = np.median(margins, axis=0) if len(margins) >= ENOUGH else np.zeros(4)
    tight_boxes = [
        np.array(mask.window, dtype=np.float64) if mask is not None else _tightened(box, usual, stain)
        for box, mask in zip(boxes, masks, strict=True)
    ]
    return BoxOutlines(masks, np.array(tight_boxes).reshape(-1, 4), stain)


def _region_of(regions: npt.NDArray[np.int32], box: npt.NDArray[np.float64]) -> int:
    """The region with most pixels in a box; 0 if there is none."""
    x0, y0, x1, y1 = (int(side) for side in box)
    sizes = np.bincount(regions[y0:y1, x0:x1].ravel(), minlength=1)
    sizes[0] = 0
    return int(sizes.argmax())


def _tightened(
    box: npt.NDArray[np.float64], margin: npt.NDArray[np.float64], stain: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """A box shrunk by a margin on each side, and on to the first stained pixels from there."""
    x0, y0, x1, y1 = np.rint(box + margin * (1, 1, -1, -1)).astype(int)
    if x1 - x0 < 4 or y1 - y0 < 4:
        return box
    inside = stain[y0:y1, x0:x1]
    if not inside.any():
        return np.array([x0, y0, x1, y1], dtype=np.float64)
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    return np.array([x0 + columns[0], y0 + rows[0], x0 + columns[-1] + 1, y0 + rows[-1] + 1], dtype=np.float64)
