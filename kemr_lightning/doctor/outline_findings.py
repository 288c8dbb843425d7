"""Faults in the outlines of one image that can be found without reading pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from kemr_lightning.core import rle
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import Annotation, Polygon, annotation_patch
from kemr_lightning.data.survey import Box
from kemr_lightning.doctor.findings import Finding

TWICE = 0.8
"""Two outlines of at least this IoU show one chromosome; crossing chromosomes stay far below."""

NESTED = 0.95
"""An outline is nested if at least this share of it lies inside another."""

LEAST_LOOP = 1.0
"""Smaller loops of a self-crossing outline do not matter; square pixels."""

BEYOND = 2.0
"""Pixels that a corner may lie beyond the image, because editors let the pointer slip a little."""

MOST_PAIRS = 1_000_000
"""Pairs of sides that are compared at most. Outlines of chromosomes have a few per side; only scribbles have more, and
of their millions of crossings a part shows the fault as well."""

_DIRECTIONS = (0.4, 1.2, 2.0, 2.8)
"""Angles in radians of the lines that sweep over an outline. None is upright or level, as many sides are."""


def largest_loop(polygon: Polygon) -> tuple[float, tuple[float, float]] | None:
    """Find where the sides of a polygon cross, and how much that matters.

    Sides that only touch or coincide (the seams that cut holes in) do not cross. Only sides that one sweeping line
    meets at the same time are compared, so the time grows with the corners and not with their square, up to
    `MOST_PAIRS`; of an outline that has more, an even share of the pairs is compared.

    Args:
        polygon: ``(K, 2)``.

    Returns:
        The area in square pixels of the largest loop that a crossing cuts off, and the point ``(x, y)`` of that
        crossing; None without a crossing. A crossing divides the outline in two loops, of which the smaller counts.
    """
    count = len(polygon)
    if count < 4:
        return None
    # Around the middle, so that areas are differences of small numbers.
    middle = polygon.mean(axis=0)
    start = polygon - middle
    end = np.roll(start, -1, axis=0)
    first, second = _close_pairs(start, end)
    a, b, c, d = start[first], end[first], start[second], end[second]
    # Two sides cross if the ends of each lie strictly on opposite sides of the other.
    apart = (_side(a, b, c) * _side(a, b, d) < 0) & (_side(c, d, a) * _side(c, d, b) < 0)
    if not apart.any():
        return None
    first, second = first[apart], second[apart]
    a, b, c, d = (part[apart] for part in (a, b, c, d))
    where = _crossing(a, b, c, d)
    # The shoelace formula: from the crossing along the corners first + 1, ..., second and back to it.
    sums = np.concatenate([[0.0], np.cumsum(_cross(start, end))])
    inner = _cross(where, b) + (sums[second] - sums[first + 1]) + _cross(c, where)
    areas = np.minimum(np.abs(inner), np.abs(sums[-1] - inner)) / 2
    worst = int(np.lexsort((second, first, -areas))[0])
    return float(areas[worst]), (float(where[worst, 0] + middle[0]), float(where[worst, 1] + middle[1]))


def _close_pairs(
    start: npt.NDArray[np.float64], end: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Pairs of sides that one sweeping line meets at the same time, the earlier side first.

    Args:
        start: ``(K, 2)`` where each side starts.
        end: ``(K, 2)`` where it ends.

    Returns:
        Two arrays ``(P,)`` of positions, P at most about `MOST_PAIRS`.
    """
    best: tuple[int, npt.NDArray[np.intp], npt.NDArray[np.intp]] | None = None
    for angle in _DIRECTIONS:
        along = np.array([np.cos(angle), np.sin(angle)])
        ends = np.sort(np.stack([start @ along, end @ along]), axis=0)
        order = np.argsort(ends[0], kind="stable")
        # The sides that begin before this one has ended, in the order of their beginnings.
        following = np.searchsorted(ends[0][order], ends[1][order], side="right") - np.arange(len(start)) - 1
        total = int(following.sum())
        if best is None or total < best[0]:
            best = total, order, following
    assert best is not None
    total, order, following = best
    picked = np.arange(0, total, max(1, -(-total // MOST_PAIRS)))
    until = np.cumsum(following)
    one = np.searchsorted(until, picked, side="right")
    other = one + 1 + picked - (until[one] - following[one])
    pair = np.sort(np.stack([order[one], order[other]]), axis=0)
    return pair[0], pair[1]


def _cross(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``(N,)`` cross products of ``(N, 2)`` vectors."""
    product: npt.NDArray[np.float64] = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    return product


def _side(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], point: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """On which side of the line from a to b a point lies: 1, -1, or 0 on the line."""
    cross = (b[..., 0] - a[..., 0]) * (point[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
        point[..., 0] - a[..., 0]
    )
    signs: npt.NDArray[np.float64] = np.sign(cross)
    return signs


def _crossing(
    a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], c: npt.NDArray[np.float64], d: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """``(N, 2)`` where the lines a-b and c-d meet."""
    along, across = b - a, d - c
    where: npt.NDArray[np.float64] = a + (_cross(c - a, across) / _cross(along, across))[:, None] * along
    return where


def outline_findings(name: str, annotations: Sequence[Annotation], size: tuple[int, int]) -> list[Finding]:
    """Find outlines that cross themselves, reach beyond the image or cover none of it.

    Args:
        name: The image.
        annotations: Its annotations.
        size: ``(H, W)``.
    """
    height, width = size
    findings = []
    for annotation in annotations:
        for polygon in annotation.polygons:
            loop = largest_loop(polygon)
            if loop is not None and loop[0] >= LEAST_LOOP:
                message = f"{annotation.label}: a loop of {loop[0]:.0f} px² at ({loop[1][0]:.0f}, {loop[1][1]:.0f})"
                findings.append(Finding("self_crossing", name, message, (annotation.bounds(),), (polygon,)))
        x0, y0, x1, y1 = annotation.bounds()
        beyond = max(-x0, -y0, x1 - width, y1 - height)
        if beyond > BEYOND:
            everything = x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height
            how = "lies wholly" if everything else f"reaches {beyond:.0f} px"
            message = f"{annotation.label} {how} beyond the image of {width}x{height}"
            findings.append(Finding("outside", name, message, (annotation.bounds(),), annotation.polygons))
        elif not annotation.box_only and annotation_patch(annotation, size) is None:
            findings.append(Finding("degenerate", name, f"{annotation.label} covers no pixel", (annotation.bounds(),)))
    return findings


def pair_findings(name: str, patches: Sequence[Patch], labels: Sequence[str], size: tuple[int, int]) -> list[Finding]:
    """Find chromosomes outlined twice, and outlines inside others.

    Args:
        name: The image.
        patches: Bool masks.
        labels: One per patch.
        size: ``(H, W)``.
    """
    coded = [rle.encode(patch, size) for patch in patches]
    iou = np.triu(rle.iou(coded, coded), 1)
    findings = []
    twice = iou >= TWICE
    for first, second in zip(*np.nonzero(twice), strict=True):
        both = labels[first] if labels[first] == labels[second] else f"{labels[first]} and {labels[second]}"
        message = f"{both}: two outlines with mask IoU {iou[first, second]:.2f}"
        findings.append(Finding("same_chromosome", name, message, _windows(patches, first, second)))
    shared = rle.intersections(coded, coded)
    areas = np.array([patch.area() for patch in patches])
    inside = (shared >= NESTED * areas[:, None]) & ~(twice | twice.T) & ~np.eye(len(patches), dtype=bool)
    for small, large in zip(*np.nonzero(inside), strict=True):
        part = shared[small, large] / areas[small]
        message = f"{labels[small]} of {areas[small]} px lies to {part:.0%} inside {labels[large]} of {areas[large]} px"
        findings.append(Finding("nested", name, message, _windows(patches, small, large)))
    return findings


def _windows(patches: Sequence[Patch], *which: int) -> tuple[Box, ...]:
    boxes = []
    for index in which:
        x0, y0, x1, y1 = patches[index].window
        boxes.append((float(x0), float(y0), float(x1), float(y1)))
    return tuple(boxes)


def box_pair_findings(name: str, boxes: npt.NDArray[np.float64], labels: Sequence[str]) -> list[Finding]:
    """Find boxes that occur twice, where there are boxes only.

    Args:
        name: The image.
        boxes: ``(N, 4)``, ``(x0, y0, x1, y1)``.
        labels: One per box.
    """
    sides = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    iou = np.triu(rle.box_iou(sides, sides), 1)
    findings = []
    # Boxes of crossing chromosomes overlap far more than their masks.
    for first, second in zip(*np.nonzero(iou >= 0.9), strict=True):
        message = f"{labels[first]} and {labels[second]}: two boxes with IoU {iou[first, second]:.2f}"
        both = tuple((float(x0), float(y0), float(x1), float(y1)) for x0, y0, x1, y1 in boxes[[first, second]].tolist())
        findings.append(Finding("same_chromosome", name, message, both))
    return findings


def length_and_width(patch: Patch) -> tuple[float, float]:
    """Sides in pixels of the smallest rectangle around a mask, at any angle; the longer one first."""
    values = patch.binary().numpy()
    points = np.argwhere(values)[:, ::-1].astype(np.float32)
    hull = cv2.convexHull(points)
    _, (first, second), _ = cv2.minAreaRect(hull)
    # The rectangle lies around pixel centres; the mask reaches half a pixel further on each side.
    return max(first, second) + 1.0, min(first, second) + 1.0


def union_mask(patches: Sequence[Patch], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """``(H, W)`` bool: every pixel of any patch."""
    full = np.zeros(size, dtype=bool)
    for patch in patches:
        x0, y0, x1, y1 = patch.window
        full[y0:y1, x0:x1] |= patch.binary().numpy()
    return full
