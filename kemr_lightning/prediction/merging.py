"""One set of instances from those of overlapping tiles.

Where several tiles show a chromosome, its mask is taken from the tile in which it lies farthest from the border; what
other tiles show of it, whole or cut, is dropped. A chromosome longer than the overlap is joined from its parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kemr_lightning.core import rle
from kemr_lightning.core.instances import Instances, Patch

Window = tuple[int, int, int, int]
"""``(x0, y0, x1, y1)`` in whole pixels, x1 and y1 exclusive."""

SAME_IOU = 0.5
"""Mask IoU at or above which instances of two tiles are one chromosome."""

INSIDE = 0.6
"""Fraction of a cut instance that lies in another tile's instance if it is a piece of it."""

NEAR = 2
"""Pixels from a tile's border at which a mask counts as cut by it."""


@dataclass
class _Found:
    """An instance of a tile, or one joined from several tiles, in the image's coordinates.

    Attributes:
        window: The tile, or what the tiles reach over.
        instance: A single instance, at the image's size.
        code: Its mask.
        margin: Pixels between the mask and the nearest border of ``window`` that is not an image border.
    """

    window: Window
    instance: Instances
    code: rle.RLE
    margin: float

    @property
    def cut(self) -> bool:
        return self.margin <= NEAR

    @property
    def patch(self) -> Patch:
        assert self.instance.patches is not None
        return self.instance.patches[0]


def merge_tiles(tiles: Iterable[tuple[Window, Instances]], image_size: tuple[int, int]) -> tuple[Instances, Tensor]:
    """One set of instances from those of overlapping tiles.

    Args:
        tiles: Each tile's window and its instances, with masks, in the tile's coordinates.
        image_size: ``(H, W)`` of the whole image.

    Returns:
        The instances of the whole image in descending order of score, and ``(N,)`` bool: which are probably cut by
        the border of a tile.
    """
    found = [item for window, instances in tiles for item in _in_image(window, instances, image_size)]
    found.sort(key=lambda item: (-item.margin, -float(item.instance.scores)))
    kept: list[_Found] = []
    for item in found:
        _place(item, kept, image_size)
    kept.sort(key=lambda item: -float(item.instance.scores))
    merged = _concatenate([item.instance for item in kept], image_size)
    return merged, torch.tensor([item.cut for item in kept], dtype=torch.bool)


def _in_image(window: Window, instances: Instances, image_size: tuple[int, int]) -> list[_Found]:
    """A tile's instances one by one, moved to where the tile lies in the image."""
    x0, y0 = window[:2]
    placed = []
    for one in instances:
        assert one.patches is not None
        (patch,) = one.patches
        moved = replace(patch, x0=patch.x0 + x0, y0=patch.y0 + y0)
        boxes = one.boxes + torch.tensor([x0, y0, x0, y0], dtype=one.boxes.dtype)
        instance = Instances(image_size, boxes, one.scores, one.labels, [moved], one.disagreement)
        code = rle.encode(moved, image_size)
        extent = _extent(code) if rle.area(code) else boxes[0].tolist()
        placed.append(_Found(window, instance, code, _margin(extent, window, image_size)))
    return placed


def _extent(code: rle.RLE) -> tuple[float, float, float, float]:
    """``(x0, y0, x1, y1)`` of a mask's tight box."""
    x, y, w, h = rle.tight_box(code)
    return x, y, x + w, y + h


def _margin(box: Sequence[float], window: Window, image_size: tuple[int, int]) -> float:
    """Pixels between a box and the nearest border of its tile that is not an image border; infinite without one."""
    height, width = image_size
    distances = [
        box[0] - window[0] if window[0] > 0 else math.inf,
        box[1] - window[1] if window[1] > 0 else math.inf,
        window[2] - box[2] if window[2] < width else math.inf,
        window[3] - box[3] if window[3] < height else math.inf,
    ]
    return min(distances)


def _place(item: _Found, kept: list[_Found], image_size: tuple[int, int]) -> None:
    """Add an instance to those kept, unless one of them, from another tile, is the same chromosome."""
    # Whatever their labels: two tiles may name one chromosome differently.
    others = [other for other in kept if other.window != item.window]
    ious = rle.iou([item.code], [other.code for other in others])[0] if others else np.zeros(0)
    shared = rle.intersections([item.code], [other.code for other in others])[0] if others else np.zeros(0)
    for position in np.argsort(-shared, kind="stable").tolist():
        if shared[position] == 0:
            break
        other = others[position]
        if item.cut and other.cut and _agree(item, other):
            _join(other, item, image_size)
            return
        if ious[position] >= SAME_IOU:
            # The same extent seen twice: the mask of the better view, the higher of the two scores.
            if other.instance.labels == item.instance.labels:
                other.instance.scores = torch.maximum(other.instance.scores, item.instance.scores)
            return
        if item.cut and shared[position] >= INSIDE * max(rle.area(item.code), 1):
            return
    kept.append(item)


def _agree(first: _Found, second: _Found) -> bool:
    """Whether two masks are alike where both tiles see."""
    zone = (
        max(first.window[0], second.window[0]),
        max(first.window[1], second.window[1]),
        min(first.window[2], second.window[2]),
        min(first.window[3], second.window[3]),
    )
    if zone[2] <= zone[0] or zone[3] <= zone[1]:
        return False
    a, b = (_values(item.patch, zone) >= 0.5 for item in (first, second))
    return bool((a & b).sum() >= SAME_IOU * max((a | b).sum(), 1))


def _values(patch: Patch, zone: Window) -> npt.NDArray[np.float32]:
    """A mask's probabilities on a window of the image, 0 beyond its patch."""
    x0, y0, x1, y1 = patch.window
    left, top, right, bottom = max(x0, zone[0]), max(y0, zone[1]), min(x1, zone[2]), min(y1, zone[3])
    values = np.zeros((zone[3] - zone[1], zone[2] - zone[0]), dtype=np.float32)
    if right > left and bottom > top:
        part = patch.values[top - y0 : bottom - y0, left - x0 : right - x0]
        values[top - zone[1] : bottom - zone[1], left - zone[0] : right - zone[0]] = part.float().numpy()
    return values


def _join(into: _Found, other: _Found, image_size: tuple[int, int]) -> None:
    """Make one instance of two parts of a chromosome that is longer than the overlap."""
    a, b = into.instance, other.instance
    window = _union(into.patch.window, other.patch.window)
    values = np.maximum(_values(into.patch, window), _values(other.patch, window))
    boxes = torch.cat([torch.minimum(a.boxes, b.boxes)[:, :2], torch.maximum(a.boxes, b.boxes)[:, 2:]], dim=1)
    disagreement = None
    if a.disagreement is not None and b.disagreement is not None:
        disagreement = torch.maximum(a.disagreement, b.disagreement)
    scores = torch.maximum(a.scores, b.scores)
    patch = Patch(window[0], window[1], torch.from_numpy(values))
    into.instance = Instances(image_size, boxes, scores, a.labels, [patch], disagreement)
    into.code = rle.encode(patch, image_size)
    into.window = _union(into.window, other.window)
    into.margin = _margin(_extent(into.code), into.window, image_size)


def _union(first: Window, second: Window) -> Window:
    """The smallest window that holds two."""
    return (
        min(first[0], second[0]),
        min(first[1], second[1]),
        max(first[2], second[2]),
        max(first[3], second[3]),
    )


def _concatenate(parts: Sequence[Instances], image_size: tuple[int, int]) -> Instances:
    if not parts:
        return Instances.empty(image_size)
    disagreements = [part.disagreement for part in parts]
    return Instances(
        image_size,
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.scores for part in parts]),
        torch.cat([part.labels for part in parts]),
        [patch for part in parts for patch in part.patches or []],
        torch.cat([d for d in disagreements if d is not None]) if all(d is not None for d in disagreements) else None,
    )
