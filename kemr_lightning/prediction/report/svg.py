"""Masks as SVG paths, for the report to draw."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from skimage.measure import find_contours

from kemr_lightning.core.instances import Patch

TOLERANCE = 0.4
"""Largest distance in pixels of a path from the outline it simplifies."""


def svg_path(patch: Patch) -> str:
    """The outline of a mask as an SVG path.

    Args:
        patch: The mask.

    Returns:
        The path in tenths of an image pixel, one closed piece for each rim; empty for an empty mask.
    """
    values = np.pad(patch.values.numpy().astype(np.float32), 1)
    pieces = []
    lines: list[npt.NDArray[np.float64]] = find_contours(values, 0.5)  # type: ignore[no-untyped-call]
    for line in lines:
        points = (line[:, ::-1] + np.array([patch.x0 - 0.5, patch.y0 - 0.5])).astype(np.float32)
        simple = cv2.approxPolyDP(points[:-1, None], TOLERANCE, True)[:, 0]
        if len(simple) < 3:
            continue
        tenths = np.rint(simple * 10).astype(int)
        steps = np.diff(tenths, axis=0)
        pieces.append(f"M{tenths[0, 0]} {tenths[0, 1]}l" + " ".join(f"{dx} {dy}" for dx, dy in steps.tolist()) + "z")
    return "".join(pieces)
