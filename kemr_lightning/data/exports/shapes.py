"""Shapes of annotation programs as outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kemr_lightning.data.annotation import FARTHEST, Annotation, Polygon, polygon_area


def outlined(label: str, points: object, group: int | None = None) -> Annotation | str:
    """An annotation from one outline, or ``"degenerate"`` if that encloses nothing.

    Args:
        label: Its class.
        points: ``(K, 2)`` corners in pixels.
        group: Number of the group that it belongs to.

    Raises:
        ValueError: These are no corners, or they lie far beyond any image.
    """
    outline = np.asarray(points, dtype=np.float64)
    if outline.size and (outline.ndim != 2 or outline.shape[1] != 2):
        raise ValueError("its corners are no pairs (x, y)")
    if not (np.abs(outline) <= FARTHEST).all():
        raise ValueError("a corner is not finite, or far beyond any image")
    if len(outline) < 3 or polygon_area(outline) <= 0:
        return "degenerate"
    return Annotation(label, polygons=(outline,), group_id=group)


def boxed(label: str, corners: Sequence[float], turn: float = 0.0, group: int | None = None) -> Annotation | str:
    """An annotation from a box: a turned one is an outline, ``"degenerate"`` if it has no area.

    Args:
        label: Its class.
        corners: ``(x0, y0, x1, y1)`` in pixels before it is turned.
        turn: Clockwise turn about the middle, in degrees.
        group: As in `outlined`.

    Raises:
        ValueError: As `outlined`.
    """
    x0, y0, x1, y1 = corners
    if not (np.abs(corners) <= FARTHEST).all():
        raise ValueError("a corner is not finite, or far beyond any image")
    if x1 <= x0 or y1 <= y0:
        return "degenerate"
    if turn % 360 == 0:
        return Annotation(label, box=(x0, y0, x1, y1), group_id=group)
    outline = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    return outlined(label, turned(outline, ((x0 + x1) / 2, (y0 + y1) / 2), turn), group)


def ellipse(centre: tuple[float, float], radii: tuple[float, float], turn: float = 0.0) -> Polygon:
    """An ellipse as a polygon of 64 corners and the same area.

    Args:
        centre: ``(x, y)`` in pixels.
        radii: Half its width and half its height before it is turned.
        turn: Clockwise turn in degrees.
    """
    angles = np.arange(64) * (2 * math.pi / 64)
    out = math.sqrt(2 * math.pi / (64 * math.sin(2 * math.pi / 64)))
    outline = np.stack([np.cos(angles) * radii[0] * out, np.sin(angles) * radii[1] * out], axis=1) + np.array(centre)
    return turned(outline, centre, turn)


def turned(outline: Polygon, centre: tuple[float, float], turn: float) -> Polygon:
    """An outline turned clockwise, as it is seen, about a point by an angle in degrees."""
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    result: Polygon = (outline - np.array(centre)) @ np.array([[cosine, sine], [-sine, cosine]]) + np.array(centre)
    return result
