"""Rods on a bright ground, and boxes around them that are too large."""

from __future__ import annotations

import numpy as np

ISOLATED = (slice(20, 32), slice(30, 110))
UPRIGHT = (slice(60, 140), slice(40, 52))
ACROSS = (slice(95, 107), slice(20, 90))
FAR = (slice(60, 72), slice(130, 190))
MORE = tuple((slice(30 * k + 170, 30 * k + 182), slice(30, 110)) for k in range(4))
LOOSE = (5, 6, 4, 3)


def scene() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Image, boxes that are larger by `LOOSE` pixels, and masks; the second and third cross."""
    image = np.full((300, 220), 235, dtype=np.uint8)
    masks, boxes = [], []
    for rows, columns in (ISOLATED, UPRIGHT, ACROSS, FAR, *MORE):
        mask = np.zeros(image.shape, dtype=bool)
        mask[rows, columns] = True
        masks.append(mask)
        image[mask] = 100
        tight = (columns.start, rows.start, columns.stop, rows.stop)
        left, top, right, bottom = LOOSE
        boxes.append((tight[0] - left, tight[1] - top, tight[2] + right, tight[3] + bottom))
    return image, np.array(boxes, dtype=np.float64), masks
