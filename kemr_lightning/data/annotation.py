"""Annotated instances before rasterisation, and the way from their polygons to mask patches.

Annotations stay polygons until an image's final geometry is known, so that they are rotated and scaled exactly and
rasterised only once. pycocotools rasterises them on the polygon's window instead of the full frame; the pixels are the
same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as coco_mask

from kemr_lightning.core.instances import Instances, Patch

Polygon = npt.NDArray[np.float64]
"""``(K, 2)`` float64 corners ``(x, y)`` in pixel-corner coordinates, as everywhere in the package."""

FARTHEST = 1e5
"""Largest plausible coordinate and image side, in pixels; anything larger is taken for damage."""

EVERY_CLASS = ""
"""The label of a crowd that is about all classes."""

_FIFTHS = 5
"""pycocotools rounds corners to fifths of a pixel before it draws."""


@dataclass(frozen=True)
class Annotation:
    """One instance as its file describes it: the union of its parts.

    Attributes:
        label: Class name.
        polygons: The parts given as outlines.
        patches: The parts given as bitmaps, bool, inside the image.
        box: ``(x0, y0, x1, y1)`` if the instance has nothing but a box, else None.
        score: The file's confidence, or None.
        description: The file's free text.
        flags: The file's named yes/no marks.
        group_id: The file's group number, or None.
        crowd: Whether this is a region where nothing is learned and nothing scored, such as COCO's crowds, instead of
            an instance. It is about its own class, or about all if its label is `EVERY_CLASS`.
        raw: The shapes exactly as in the file, for writing them back unchanged.
    """

    label: str
    polygons: tuple[Polygon, ...] = ()
    patches: tuple[Patch, ...] = ()
    box: tuple[float, float, float, float] | None = None
    score: float | None = None
    description: str = ""
    flags: Mapping[str, bool] = field(default_factory=dict)
    group_id: int | str | None = None
    crowd: bool = False
    raw: tuple[Mapping[str, Any], ...] = field(default=(), compare=False, repr=False)

    @property
    def box_only(self) -> bool:
        """Whether there is a box, but neither an outline nor a bitmap."""
        return self.box is not None and not self.polygons and not self.patches

    def bounds(self) -> tuple[float, float, float, float]:
        """The box ``(x0, y0, x1, y1)`` around all parts."""
        corners = [(*p.min(axis=0), *p.max(axis=0)) for p in self.polygons]
        corners += [tuple(float(v) for v in patch.window) for patch in self.patches]
        corners += [] if self.box is None else [self.box]
        low = np.min(np.array(corners)[:, :2], axis=0)
        high = np.max(np.array(corners)[:, 2:], axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def box_outline(box: Sequence[float]) -> Polygon:
    """The four corners of a box ``(x0, y0, x1, y1)``."""
    x0, y0, x1, y1 = box
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=np.float64)


def polygon_area(polygon: Polygon) -> float:
    """Area of a polygon in square pixels, by the shoelace formula."""
    x, y = polygon[:, 0], polygon[:, 1]
    inner = float(x[:-1] @ y[1:] - y[:-1] @ x[1:])
    return 0.5 * abs(inner + float(x[-1] * y[0] - y[-1] * x[0]))


def rasterise(polygons: Sequence[Polygon], size: tuple[int, int]) -> Patch | None:
    """Rasterise the union of polygons on their own window, with the pixels that pycocotools gives on the full frame.

    Args:
        polygons: They may reach beyond the image; those of fewer than 3 corners are ignored.
        size: ``(H, W)`` of the image.

    Returns:
        A bool patch, tight around the mask; None if the polygons cover no pixel of the image.
    """
    height, width = size
    # Round as pycocotools does (add half, truncate towards 0) before shifting: after the shift, ties might round to the
    # other side.
    fifths = [np.trunc(polygon * _FIFTHS + 0.5) for polygon in polygons if len(polygon) >= 3]
    if not fifths:
        return None
    low = np.min([f.min(axis=0) for f in fifths], axis=0) / _FIFTHS
    high = np.max([f.max(axis=0) for f in fifths], axis=0) / _FIFTHS
    x0, y0 = max(math.floor(low[0]), 0), max(math.floor(low[1]), 0)
    x1, y1 = min(math.ceil(high[0]) + 1, width), min(math.ceil(high[1]) + 1, height)
    if x1 <= x0 or y1 <= y0:
        return None
    flat = []
    for corners in fifths:
        shifted = corners - np.array([x0, y0]) * _FIFTHS
        # pycocotools will add half a fifth and truncate again, which would move negative coordinates.
        flat.append(((shifted - (shifted < 0)) / _FIFTHS).ravel().tolist())
    rles = coco_mask.frPyObjects(flat, y1 - y0, x1 - x0)
    mask = coco_mask.decode(coco_mask.merge(rles) if len(rles) > 1 else rles[0]).astype(bool)
    return tight_patch(mask, x0, y0)


def tight_patch(mask: npt.NDArray[np.bool_], x0: int, y0: int) -> Patch | None:
    """Crop a mask to its foreground.

    Args:
        mask: ``(h, w)`` bool.
        x0: Column of the mask's first pixel in the image.
        y0: Row of the mask's first pixel in the image.

    Returns:
        A tight bool patch; None if the mask is empty.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    values = torch.from_numpy(np.ascontiguousarray(mask[top:bottom, left:right]))
    return Patch(x0 + int(left), y0 + int(top), values)


def unite(patches: Sequence[Patch]) -> Patch | None:
    """Unite bool patches to one tight patch; None if there is no foreground."""
    if not patches:
        return None
    if len(patches) == 1:
        return tight_patch(patches[0].values.numpy(), patches[0].x0, patches[0].y0)
    windows = np.array([patch.window for patch in patches])
    x0, y0 = windows[:, :2].min(axis=0).tolist()
    x1, y1 = windows[:, 2:].max(axis=0).tolist()
    mask = np.zeros((y1 - y0, x1 - x0), dtype=bool)
    for patch in patches:
        left, top, right, bottom = patch.window
        mask[top - y0 : bottom - y0, left - x0 : right - x0] |= patch.values.numpy()
    return tight_patch(mask, x0, y0)


def annotation_patch(annotation: Annotation, size: tuple[int, int]) -> Patch | None:
    """Rasterise one instance: the union of its polygons and bitmaps inside an image of ``(H, W)``, None if empty."""
    drawn = rasterise(annotation.polygons, size) if annotation.polygons else None
    if not annotation.patches:
        return drawn
    parts = [clipped for patch in annotation.patches if (clipped := clip_patch(patch, size)) is not None]
    return unite(parts if drawn is None else [drawn, *parts])


def clip_patch(patch: Patch, size: tuple[int, int]) -> Patch | None:
    """Cut a patch, whose ``x0`` and ``y0`` may be negative here, to an image of ``(H, W)``; None if nothing is left."""
    x0, y0, x1, y1 = patch.window
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, size[1]), min(y1, size[0])
    if right <= left or bottom <= top:
        return None
    return Patch(left, top, patch.values[top - y0 : bottom - y0, left - x0 : right - x0])


def instances_from_patches(patches: Sequence[Patch], labels: Sequence[int], size: tuple[int, int]) -> Instances:
    """Make instances with tight boxes and scores of 1 from bool patches.

    Args:
        patches: Tight and not empty.
        labels: One per patch, from 1.
        size: ``(H, W)`` of the image.
    """
    boxes = torch.tensor([patch.window for patch in patches], dtype=torch.float32).reshape(-1, 4)
    return Instances(
        size, boxes, torch.ones(len(patches)), torch.tensor(list(labels), dtype=torch.int64), list(patches)
    )


def to_instances(
    annotations: Sequence[Annotation], label_ids: Mapping[str, int], size: tuple[int, int]
) -> tuple[Instances, list[int]]:
    """Rasterise the annotations of one image.

    Args:
        annotations: If one of them has only a box, no instance gets a mask: a box is not a mask to train or score
            against.
        label_ids: Class name to label, from 1. Annotations of other classes are left out.
        size: ``(H, W)`` of the image.

    Returns:
        The instances, with the crowds as their `Instances.ignored`, and for each instance its position in
        ``annotations``. Annotations that cover no pixel are left out.
    """
    instances, positions = _to_instances(annotations, label_ids, size)
    instances.ignored = crowd_regions(annotations, label_ids, size)
    return instances, positions


def crowd_regions(
    annotations: Sequence[Annotation], label_ids: Mapping[str, int], size: tuple[int, int]
) -> Instances | None:
    """The crowds among annotations, with masks: one for each class that they are about; None if there are none.

    Args:
        annotations: Annotations of any kind. A crowd that is only a box covers all of it.
        label_ids: Class name to label, from 1. Crowds of other classes are left out.
        size: ``(H, W)`` of the image.
    """
    patches: list[Patch] = []
    labels: list[int] = []
    for crowd in annotations:
        if not crowd.crowd or (crowd.label != EVERY_CLASS and crowd.label not in label_ids):
            continue
        patch = annotation_patch(with_outline(crowd), size)
        if patch is not None:
            about = label_ids.values() if crowd.label == EVERY_CLASS else [label_ids[crowd.label]]
            patches += [patch] * len(about)
            labels += about
    return instances_from_patches(patches, labels, size) if patches else None


def with_outline(annotation: Annotation) -> Annotation:
    """The same annotation; one that is only a box has the box as its outline."""
    if annotation.box is None or not annotation.box_only:
        return annotation
    x0, y0, x1, y1 = annotation.box
    return replace(annotation, polygons=(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]),), box=None)


def _to_instances(
    annotations: Sequence[Annotation], label_ids: Mapping[str, int], size: tuple[int, int]
) -> tuple[Instances, list[int]]:
    kept = [index for index, each in enumerate(annotations) if each.label in label_ids and not each.crowd]
    if any(annotations[index].box_only for index in kept):
        return _box_instances(annotations, kept, label_ids, size)
    patches, labels, positions = [], [], []
    for index in kept:
        patch = annotation_patch(annotations[index], size)
        if patch is not None:
            patches.append(patch)
            labels.append(label_ids[annotations[index].label])
            positions.append(index)
    return instances_from_patches(patches, labels, size), positions


def _box_instances(
    annotations: Sequence[Annotation], kept: Sequence[int], label_ids: Mapping[str, int], size: tuple[int, int]
) -> tuple[Instances, list[int]]:
    height, width = size
    boxes, positions = [], []
    for index in kept:
        x0, y0, x1, y1 = annotations[index].bounds()
        box = (max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height)))
        if box[2] > box[0] and box[3] > box[1]:
            boxes.append(box)
            positions.append(index)
    labels = torch.tensor([label_ids[annotations[index].label] for index in positions], dtype=torch.int64)
    scores = torch.ones(len(boxes))
    return Instances(size, torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), scores, labels, None), positions


def turn_annotation(annotation: Annotation, orientation: int, size: tuple[int, int]) -> Annotation:
    """Apply an EXIF orientation to an annotation, as it is applied to the image.

    Args:
        annotation: In the coordinates of the pixels as stored.
        orientation: EXIF orientation, 1 to 8.
        size: ``(H, W)`` of the upright image.

    Returns:
        The annotation in the coordinates of the upright image.
    """
    swap, across, down = orientation >= 5, orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)

    def turned(points: Polygon) -> Polygon:
        x, y = (points[:, 1], points[:, 0]) if swap else (points[:, 0], points[:, 1])
        return np.stack([size[1] - x if across else x, size[0] - y if down else y], axis=1)

    patches = []
    for patch in annotation.patches:
        corners = turned(np.array(patch.window, dtype=np.float64).reshape(2, 2)).min(axis=0)
        values = patch.values.T if swap else patch.values
        values = values.flip([axis for axis, flipped in enumerate((down, across)) if flipped])
        patches.append(Patch(int(corners[0]), int(corners[1]), values.contiguous()))
    box = annotation.box
    if box is not None:
        corners = turned(np.array(box, dtype=np.float64).reshape(2, 2))
        (x0, y0), (x1, y1) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
        box = (x0, y0, x1, y1)
    polygons = tuple(turned(polygon) for polygon in annotation.polygons)
    return replace(annotation, polygons=polygons, patches=tuple(patches), box=box)


def scale_annotation(annotation: Annotation, factors: tuple[float, float]) -> Annotation:
    """Scale an annotation by factors ``(horizontal, vertical)``; bitmaps are interpolated and thresholded at 1/2."""
    polygons = tuple(polygon * np.array(factors) for polygon in annotation.polygons)
    patches = [scaled for patch in annotation.patches if (scaled := _scale_patch(patch, factors)) is not None]
    box = annotation.box
    if box is not None:
        box = (box[0] * factors[0], box[1] * factors[1], box[2] * factors[0], box[3] * factors[1])
    return replace(annotation, polygons=polygons, patches=tuple(patches), box=box)


def _scale_patch(patch: Patch, factors: tuple[float, float]) -> Patch | None:
    x0, y0, x1, y1 = (side * factor for side, factor in zip(patch.window, factors * 2, strict=True))
    left, top, right, bottom = math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)
    # Maps pixel centres of the result to those of the source, in OpenCV's coordinates, where centres are whole numbers.
    inverse = np.array(
        [
            [1 / factors[0], 0, (left + 0.5) / factors[0] - patch.x0 - 0.5],
            [0, 1 / factors[1], (top + 0.5) / factors[1] - patch.y0 - 0.5],
        ]
    )
    values = patch.values.numpy().astype(np.float32)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    scaled = cv2.warpAffine(values, inverse, (right - left, bottom - top), flags=flags)
    return tight_patch(np.asarray(scaled >= 0.5), left, top)
