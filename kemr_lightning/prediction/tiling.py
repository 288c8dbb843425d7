"""Images larger than a detector should see at once: overlapping tiles, and one set of instances from all of them.

The overlap is larger than the largest chromosome, so that every chromosome lies whole in some tile. Where several tiles
show it, the one in which it lies farthest from a tile's border has its mask; the others' versions, cut ones included,
are dropped. What is longer than the overlap after all is joined from its parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kemr_lightning.core import rle
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Patch

Window = tuple[int, int, int, int]
"""``(x0, y0, x1, y1)`` in whole pixels, x1 and y1 exclusive."""

SAME_IOU = 0.5
"""Mask IoU above which instances of two tiles are one chromosome."""

INSIDE = 0.6
"""Part of a cut instance that lies in another tile's instance if it is a piece of it."""

NEAR = 2
"""Pixels from a tile's border at which a mask counts as cut by it."""


@dataclass(frozen=True)
class Tiling:
    """How large images are cut.

    Attributes:
        side: Height and width of a tile in pixels; images no larger than that are not cut.
        overlap: Least pixels that neighbouring tiles share; more than the longest chromosome.

    Raises:
        UserError: The overlap is not between 0 and half the side.
    """

    side: int = 1536
    overlap: int = 384

    def __post_init__(self) -> None:
        if self.side < 64:
            raise UserError(f"predict.tile={self.side} is too small for a chromosome. Give at least 64 pixels.")
        if not 0 <= self.overlap <= self.side // 2:
            raise UserError(f"predict.overlap={self.overlap} is too much for tiles of {self.side}. Give at most half.")

    def windows(self, image_size: tuple[int, int]) -> list[Window]:
        """Tiles that cover an image of ``(H, W)``, evenly spread, row by row; a single one if it is small."""
        rows, columns = (self._starts(length) for length in image_size)
        height, width = image_size
        return [(x, y, min(x + self.side, width), min(y + self.side, height)) for y in rows for x in columns]

    def _starts(self, length: int) -> list[int]:
        if length <= self.side:
            return [0]
        count = math.ceil((length - self.overlap) / (self.side - self.overlap))
        return [round(index * (length - self.side) / (count - 1)) for index in range(count)]


def predict_tiles(
    predict: Callable[[Tensor], Instances],
    image: Tensor,
    tiling: Tiling | None,
    limit: int | None = None,
    on_full: Callable[[Instances], None] | None = None,
) -> tuple[Instances, Tensor]:
    """Predict an image, in tiles if it is large.

    Args:
        predict: ``(H, W)`` uint8 pixels to instances at that size.
        image: ``(H, W)`` uint8.
        tiling: How to cut; None never does.
        limit: Most instances that ``predict`` gives. A tile that has as many is cut into smaller ones, as long as these
            are well larger than the overlap: it may hold more.
        on_full: Called with the instances of an image or a tile that has as many and is not cut further.

    Returns:
        The instances of the whole image by falling score, and ``(N,)`` bool: which are probably cut by a tile's border.
    """
    size = (int(image.shape[0]), int(image.shape[1]))
    windows = [] if tiling is None else tiling.windows(size)
    if len(windows) < 2:
        instances = predict(image)
        if on_full is not None and limit is not None and len(instances) >= limit:
            on_full(instances)
        return instances, torch.zeros(len(instances), dtype=torch.bool)
    assert tiling is not None
    found = (tile for window in windows for tile in _predict_tile(predict, image, window, tiling, limit, on_full))
    return merge_tiles(found, size)


def _predict_tile(
    predict: Callable[[Tensor], Instances],
    image: Tensor,
    window: Window,
    tiling: Tiling,
    limit: int | None,
    on_full: Callable[[Instances], None] | None,
) -> Iterator[tuple[Window, Instances]]:
    x0, y0, x1, y1 = window
    instances = predict(image[y0:y1, x0:x1]).to("cpu")
    smaller = (tiling.side + tiling.overlap) // 2
    full = limit is not None and len(instances) >= limit
    if not full or smaller < max(2 * tiling.overlap, 64):
        if full and on_full is not None:
            on_full(instances)
        yield window, instances
        return
    inner = Tiling(smaller, tiling.overlap)
    for left, top, right, bottom in inner.windows((y1 - y0, x1 - x0)):
        part = (x0 + left, y0 + top, x0 + right, y0 + bottom)
        yield from _predict_tile(predict, image, part, inner, limit, on_full)


@dataclass
class _Found:
    """An instance of some tile, or of several, in the image's coordinates."""

    window: Window
    instance: Instances
    code: rle.RLE
    margin: float

    @property
    def cut(self) -> bool:
        return self.margin <= NEAR


def merge_tiles(tiles: Iterable[tuple[Window, Instances]], image_size: tuple[int, int]) -> tuple[Instances, Tensor]:
    """One set of instances from those of overlapping tiles.

    Args:
        tiles: Each tile's window and its instances, in the tile's coordinates.
        image_size: ``(H, W)`` of the whole image.

    Returns:
        As `predict_tiles`.
    """
    found = [
        item for window, instances in tiles for item in _in_image(window, instances, image_size) if item is not None
    ]
    found.sort(key=lambda item: (-item.margin, -float(item.instance.scores)))
    kept: list[_Found] = []
    for item in found:
        _place(item, kept, image_size)
    kept.sort(key=lambda item: -float(item.instance.scores))
    merged = _concatenate([item.instance for item in kept], image_size)
    return merged, torch.tensor([item.cut for item in kept], dtype=torch.bool)


def _in_image(window: Window, instances: Instances, image_size: tuple[int, int]) -> list[_Found]:
    x0, y0 = window[:2]
    placed = []
    for one in instances:
        assert one.patches is not None
        (patch,) = one.patches
        moved = Instances(
            image_size,
            one.boxes + torch.tensor([x0, y0, x0, y0], dtype=one.boxes.dtype),
            one.scores,
            one.labels,
            [replace(patch, x0=patch.x0 + x0, y0=patch.y0 + y0)],
            one.disagreement,
        )
        code = rle.encode(moved.patches[0], image_size)  # type: ignore[index]
        x, y, w, h = rle.tight_box(code) if rle.area(code) else _as_xywh(moved.boxes[0].tolist())
        placed.append(_Found(window, moved, code, _margin((x, y, x + w, y + h), window, image_size)))
    return placed


def _as_xywh(box: Sequence[float]) -> tuple[float, float, float, float]:
    return box[0], box[1], box[2] - box[0], box[3] - box[1]


def _margin(box: tuple[float, float, float, float], window: Window, image_size: tuple[int, int]) -> float:
    """Pixels between a box and the nearest border of its tile that is no border of the image."""
    height, width = image_size
    distances = [
        box[0] - window[0] if window[0] > 0 else math.inf,
        box[1] - window[1] if window[1] > 0 else math.inf,
        window[2] - box[2] if window[2] < width else math.inf,
        window[3] - box[3] if window[3] < height else math.inf,
    ]
    return min(distances)


def _place(item: _Found, kept: list[_Found], image_size: tuple[int, int]) -> None:
    """Add an instance to those kept, unless one of them, from another tile, is the same."""
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
            # The same extent seen twice: the better view has the mask, the surer one the score.
            if other.instance.labels == item.instance.labels:
                other.instance.scores = torch.maximum(other.instance.scores, item.instance.scores)
            return
        if item.cut and shared[position] >= INSIDE * max(rle.area(item.code), 1):
            return
    kept.append(item)


def _agree(first: _Found, second: _Found) -> bool:
    """Whether two instances look alike where both their tiles see."""
    zone = (
        max(first.window[0], second.window[0]),
        max(first.window[1], second.window[1]),
        min(first.window[2], second.window[2]),
        min(first.window[3], second.window[3]),
    )
    if zone[2] <= zone[0] or zone[3] <= zone[1]:
        return False
    a, b = (_values(item.instance, zone) >= 0.5 for item in (first, second))
    return bool((a & b).sum() >= SAME_IOU * max((a | b).sum(), 1))


def _values(instance: Instances, zone: Window) -> npt.NDArray[np.float32]:
    """The probabilities of a single instance on a window, 0 beyond its patch."""
    assert instance.patches is not None
    patch = instance.patches[0]
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
    assert a.patches is not None
    assert b.patches is not None
    windows = np.array([a.patches[0].window, b.patches[0].window])
    x0, y0 = (int(value) for value in windows[:, :2].min(axis=0))
    x1, y1 = (int(value) for value in windows[:, 2:].max(axis=0))
    values = np.maximum(_values(a, (x0, y0, x1, y1)), _values(b, (x0, y0, x1, y1)))
    boxes = torch.cat([torch.minimum(a.boxes, b.boxes)[:, :2], torch.maximum(a.boxes, b.boxes)[:, 2:]], dim=1)
    disagreement = None
    if a.disagreement is not None and b.disagreement is not None:
        disagreement = torch.maximum(a.disagreement, b.disagreement)
    scores = torch.maximum(a.scores, b.scores)
    patch = Patch(x0, y0, torch.from_numpy(values))
    into.instance = Instances(image_size, boxes, scores, a.labels, [patch], disagreement)
    into.code = rle.encode(patch, image_size)
    reach = [*(min(p, q) for p, q in zip(into.window[:2], other.window[:2], strict=True))]
    reach += [max(p, q) for p, q in zip(into.window[2:], other.window[2:], strict=True)]
    into.window = (reach[0], reach[1], reach[2], reach[3])
    x, y, w, h = rle.tight_box(into.code)
    into.margin = _margin((x, y, x + w, y + h), into.window, image_size)


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
