"""Faults in the outlines of one image that can be found without reading pixels."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from kemr_lightning.core import rle
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import Annotation, Polygon, annotation_patch, polygon_area
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

_CHUNK = 256


def largest_loop(polygon: Polygon) -> tuple[float, tuple[float, float]] | None:
    """Find where the sides of a polygon cross, and how much that matters.

    Sides that only touch or coincide (the seams that cut holes in) do not cross.

    Args:
        polygon: ``(K, 2)``.

    Returns:
        The area in square pixels of the largest loop that a crossing cuts off, and the point ``(x, y)`` of that
        crossing; None without a crossing. A crossing divides the outline in two loops, of which the smaller counts.
    """
    start, end = polygon, np.roll(polygon, -1, axis=0)
    count = len(polygon)
    worst: tuple[float, tuple[float, float]] | None = None
    for first in range(0, count, _CHUNK):
        a, b = start[first : first + _CHUNK, None], end[first : first + _CHUNK, None]
        # Two sides cross if the ends of each lie strictly on opposite sides of the other.
        apart = (_side(a, b, start[None]) * _side(a, b, end[None]) < 0) & (
            _side(start[None], end[None], a) * _side(start[None], end[None], b) < 0
        )
        for i, j in zip(*np.nonzero(apart), strict=True):
            i += first
            if i >= j:
                continue
            where = _crossing(start[i], end[i], start[j], end[j])
            inner = np.concatenate([where[None], polygon[i + 1 : j + 1]])
            outer = np.concatenate([where[None], polygon[j + 1 :], polygon[: i + 1]])
            area = min(polygon_area(inner), polygon_area(outer))
            if worst is None or area > worst[0]:
                worst = area, (float(where[0]), float(where[1]))
    return worst


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
    """Where the lines a-b and c-d meet."""
    along, across = b - a, d - c
    part = ((c - a)[0] * across[1] - (c - a)[1] * across[0]) / (along[0] * across[1] - along[1] * across[0])
    where: npt.NDArray[np.float64] = a + part * along
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
