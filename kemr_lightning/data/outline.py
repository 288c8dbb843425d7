"""Polygons of masks: outlines along the pixels' edges, simplified as long as they rasterise back to the mask."""

from __future__ import annotations

from collections import defaultdict

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from kemr_lightning.data.annotation import Polygon, polygon_area, rasterise

TOLERANCES = (0.75, 0.5, 0.35, 0.2)
"""Tolerances of the simplification, in pixels, in the order they are tried."""


def mask_polygons(mask: npt.NDArray[np.bool_], min_iou: float = 0.99) -> list[Polygon]:
    """Outline a mask, one polygon for each connected part.

    Each part gets the simplest outline whose raster (by pycocotools) has an IoU of at least ``min_iou`` with it. If no
    simplification reaches that, it gets the outline along the pixels' edges, which is exact. Holes are joined to the
    outer outline by seams of zero width.

    Args:
        mask: ``(H, W)`` bool.
        min_iou: Smallest IoU between each part and its polygon; 1 for exact outlines.

    Returns:
        ``(K, 2)`` float64 polygons in pixel-corner coordinates; none for an empty mask. Parts that touch only at a
        corner count as one.
    """
    parts, count = ndimage.label(mask, structure=np.ones((3, 3), dtype=int))
    windows = ndimage.find_objects(parts)
    polygons = []
    for number in range(1, count + 1):
        rows, columns = windows[number - 1]
        polygon = _part_polygon(parts[rows, columns] == number, min_iou)
        polygons.append(polygon + np.array([columns.start, rows.start], dtype=np.float64))
    return polygons


def _part_polygon(part: npt.NDArray[np.bool_], min_iou: float) -> Polygon:
    """Outline one connected part, as `mask_polygons`."""
    loops = pixel_edges(part)
    for tolerance in TOLERANCES if min_iou < 1 else ():
        simple = [_simplify(loop, tolerance) for loop in loops]
        # Holes too small to survive are dropped; the IoU shows whether that matters.
        polygon = join_holes(simple[0], [hole for hole in simple[1:] if len(hole) >= 3])
        if len(simple[0]) >= 3 and _agreement(polygon, part) >= min_iou:
            return polygon
    return join_holes(corners_of(loops[0]), [corners_of(hole) for hole in loops[1:]])


def _agreement(polygon: Polygon, part: npt.NDArray[np.bool_]) -> float:
    """IoU of a polygon's raster and a mask."""
    drawn = rasterise([polygon + 1], (part.shape[0] + 2, part.shape[1] + 2))
    if drawn is None:
        return 0.0
    frame = np.zeros((part.shape[0] + 2, part.shape[1] + 2), dtype=bool)
    x0, y0, x1, y1 = drawn.window
    frame[y0:y1, x0:x1] = drawn.values.numpy()
    wanted = np.pad(part, 1)
    return float((frame & wanted).sum() / (frame | wanted).sum())


def _simplify(loop: Polygon, tolerance: float) -> Polygon:
    """Join the midpoints of the pixel edges, then drop corners within the tolerance (Douglas-Peucker, by OpenCV)."""
    middles = ((loop + np.roll(loop, -1, axis=0)) / 2).astype(np.float32)
    simple: Polygon = cv2.approxPolyDP(middles[:, None], tolerance, True)[:, 0].astype(np.float64)
    # No editor shows more than hundredths of a pixel.
    return np.round(simple, 2)


def pixel_edges(mask: npt.NDArray[np.bool_]) -> list[Polygon]:
    """Trace the closed loops of pixel edges around a mask.

    Args:
        mask: ``(H, W)`` bool with one 8-connected part.

    Returns:
        The outer loop, then one loop for each hole: ``(K, 2)`` float64 corners, one pixel apart, with the mask on the
        right-hand side (y points down).
    """
    padded = np.pad(mask, 1)
    # Top edges run to the right, right edges down, bottom edges to the left, left edges up.
    leaving: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for axis, shift, start, step in _SIDES:
        edge = padded & ~np.roll(padded, shift, axis=axis)
        for row, column in zip(*np.nonzero(edge[1:-1, 1:-1]), strict=True):
            corner = (int(column) + start[0], int(row) + start[1])
            leaving[corner].append((corner[0] + step[0], corner[1] + step[1]))
    loops = []
    while leaving:
        first = next(iter(leaving))
        loop, here, before = [], first, None
        while here in leaving:
            ends = leaving[here]
            # Where two pixels touch only at a corner, turn left, which keeps them in one loop.
            pick = 0 if before is None or len(ends) == 1 else _left_turn(before, here, ends)
            following = ends.pop(pick)
            if not ends:
                del leaving[here]
            loop.append(here)
            before, here = here, following
        loops.append(np.array(loop, dtype=np.float64))
    return sorted(loops, key=polygon_area, reverse=True)


_SIDES = (
    (0, 1, (0, 0), (1, 0)),  # top
    (1, -1, (1, 0), (0, 1)),  # right
    (0, -1, (1, 1), (-1, 0)),  # bottom
    (1, 1, (0, 1), (0, -1)),  # left
)
"""For each side of a pixel: axis and shift that bring the neighbour on that side onto it; the edge's start and step."""


def _left_turn(before: tuple[int, int], here: tuple[int, int], ends: list[tuple[int, int]]) -> int:
    """Position among ``ends`` of the corner to the left when going from ``before`` to ``here``."""
    step = (here[0] - before[0], here[1] - before[1])
    left = (here[0] + step[1], here[1] - step[0])
    return ends.index(left) if left in ends else 0


def corners_of(loop: Polygon) -> Polygon:
    """A closed loop without the points in the middle of straight stretches."""
    turning = np.any((loop - np.roll(loop, 1, axis=0)) != (np.roll(loop, -1, axis=0) - loop), axis=1)
    return loop[turning]


def join_holes(outer: Polygon, holes: list[Polygon]) -> Polygon:
    """Join the outline of a part and those of its holes to one polygon.

    The polygon visits each hole along a seam from the nearest corner and returns along the same seam. The two passes
    cancel when the polygon is filled by the even-odd rule.

    Args:
        outer: ``(K, 2)`` outline.
        holes: ``(K', 2)`` outlines of the holes.

    Returns:
        ``(K + sum(K' + 2), 2)`` polygon.
    """
    line = outer
    for hole in holes:
        distances = ((line[:, None] - hole[None]) ** 2).sum(axis=2)
        at, to = np.unravel_index(int(distances.argmin()), distances.shape)
        around = np.roll(hole, -int(to), axis=0)
        line = np.concatenate([line[: at + 1], around, around[:1], line[at:]])
    return line
