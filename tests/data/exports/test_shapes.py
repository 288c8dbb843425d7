"""Shapes of annotation programs as outlines."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kemr_lightning.data.annotation import Annotation, polygon_area
from kemr_lightning.data.exports.shapes import boxed, ellipse, outlined, turned


def test_outlines_without_area_and_beyond_any_image() -> None:
    assert outlined("a", [[0, 0], [1, 1]]) == "degenerate"
    assert outlined("a", [[0, 0], [1, 1], [2, 2]]) == "degenerate"
    assert boxed("a", (3, 3, 3, 9)) == "degenerate"
    for points in ([[0, 0], [1e9, 0], [1, 1]], [[0, math.nan], [1, 0], [1, 1]]):
        with pytest.raises(ValueError, match="not finite, or far"):
            outlined("a", points)
    with pytest.raises(ValueError, match="not finite, or far"):
        boxed("a", (0, 0, math.inf, 1))


def test_turns_are_clockwise_as_they_are_seen() -> None:
    # y grows downwards: a point on the right goes down.
    assert turned(np.array([[2.0, 0.0]]), (0, 0), 90) == pytest.approx(np.array([[0.0, 2.0]]))
    box = boxed("a", (0, 0, 4, 2), 90)
    assert isinstance(box, Annotation)
    assert box.bounds() == pytest.approx((1, -1, 3, 3))


def test_an_ellipse_keeps_its_area() -> None:
    assert polygon_area(ellipse((50, 40), (20, 5), 30)) == pytest.approx(math.pi * 100, rel=1e-6)
