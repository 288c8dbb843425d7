"""Masks to polygons that rasterise back to them: exact outlines along pixel edges, smoothed as far as that holds."""

from __future__ import annotations

from collections import defaultdict

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from kemr_lightning.data.annotation import Polygon, polygon_area, rasterise

TOLERANCES = (0.75, 0.5, 0.35, 0.2)
"""Distances in pixels by which an outline may be simplified, tried in this order."""


def mask_polygons(mask: npt.NDArray[np.bool_], min_iou: float = 0.99) -> list[Polygon]:
    """Outline a mask, one polygon for each connected part.

    Each part gets the simplest outline that still rasterises (as pycocotools does) to at least ``min_iou`` of the part;
    in the end the outline along the pixels' edges, which is exact. Holes are cut in from the outer rim along a seam of
    no width.

    Args:
        mask: ``(H, W)`` bool.
        min_iou: Least IoU between each part and its polygon.

    Returns:
        ``(K, 2)`` float64 polygons in pixel-corner coordinates; none for an empty mask. Parts that touch at a corner
        are one.
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
    loops = pixel_edges(part)
    for tolerance in TOLERANCES if min_iou < 1 else ():
        simple = [_simplify(loop, tolerance) for loop in loops]
        # A hole may be too small to survive; the check tells whether it matters.
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
    """The outline through the middles of the pixel edges, less the corners that matter less than the tolerance."""
    middles = ((loop + np.roll(loop, -1, axis=0)) / 2).astype(np.float32)
    simple: Polygon = cv2.approxPolyDP(middles[:, None], tolerance, True)[:, 0].astype(np.float64)
    # Hundredths of a pixel are more than any editor shows.
    return np.round(simple, 2)


def pixel_edges(mask: npt.NDArray[np.bool_]) -> list[Polygon]:
    """The closed loops of pixel edges around a mask, one pixel edge after the other.

    Args:
        mask: ``(H, W)`` bool with one 8-connected part.

    Returns:
        The outer loop, then one loop for each hole.
    """
    padded = np.pad(mask, 1)
    # Every edge runs with the mask on its right hand (y down): tops to the right, right sides down, and so on.
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
            # Where two pixels touch at a corner, turn left: the two stay in one loop.
            pick = 0 if before is None or len(ends) == 1 else _left_turn(before, here, ends)
            following = ends.pop(pick)
            if not ends:
                del leaving[here]
            loop.append(here)
            before, here = here, following
        loops.append(np.array(loop, dtype=np.float64))
    return sorted(loops, key=polygon_area, reverse=True)


_SIDES = (
    (0, 1, (0, 0), (1, 0)),  # nothing above
    (1, -1, (1, 0), (0, 1)),  # nothing to the right
    (0, -1, (1, 1), (-1, 0)),  # nothing below
    (1, 1, (0, 1), (0, -1)),  # nothing to the left
)


def _left_turn(before: tuple[int, int], here: tuple[int, int], ends: list[tuple[int, int]]) -> int:
    step = (here[0] - before[0], here[1] - before[1])
    left = (here[0] + step[1], here[1] - step[0])
    return ends.index(left) if left in ends else 0


def corners_of(loop: Polygon) -> Polygon:
    """A loop without the points on straight stretches."""
    turning = np.any((loop - np.roll(loop, 1, axis=0)) != (np.roll(loop, -1, axis=0) - loop), axis=1)
    return loop[turning]


def join_holes(outer: Polygon, holes: list[Polygon]) -> Polygon:
    """One closed line around a part and its holes, led to each hole and back along the same seam.

    The two passes of a seam cancel when the polygon is filled by the even-odd rule.
    """
    line = outer
    for hole in holes:
        distances = ((line[:, None] - hole[None]) ** 2).sum(axis=2)
        at, to = np.unravel_index(int(distances.argmin()), distances.shape)
        around = np.roll(hole, -int(to), axis=0)
        line = np.concatenate([line[: at + 1], around, around[:1], line[at:]])
    return line
