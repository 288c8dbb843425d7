"""A small data set, written as other programs export it, by code that knows nothing of the readers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIZE = (60, 80)
"""Height and width of the images."""

SHAPES: dict[str, list[tuple[str, list[list[tuple[float, float]]]]]] = {
    "cell_0": [
        ("1", [[(5.25, 4.5), (20.75, 6.25), (18.0, 20.5), (6.5, 18.25)]]),
        ("X", [[(30.5, 5.0), (40.25, 5.5), (39.0, 15.75)], [(50.0, 6.25), (60.5, 7.0), (55.25, 20.5), (48.5, 18.0)]]),
    ],
    "cell_1": [("on", [[(10.0, 30.25), (70.5, 33.75), (68.25, 45.0), (12.5, 44.5)]])],
}
"""Label and parts of every instance of each image."""

PARTS = {"cell_0": "train", "cell_1": "test"}


def draw(path: Path, name: str) -> None:
    pixels = np.full(SIZE, 200, dtype=np.uint8)
    for _, parts in SHAPES[name]:
        for part in parts:
            cv2.fillPoly(pixels, [np.rint(part).astype(np.int32)], 60)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels)


def box_of(parts: list[list[tuple[float, float]]]) -> tuple[float, float, float, float]:
    corners = np.array([corner for part in parts for corner in part])
    return (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())


def mask_of(parts: list[list[tuple[float, float]]]) -> np.ndarray:
    """An independent raster: a pixel is set if its centre lies inside, by counting crossings."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    mask = np.zeros(SIZE, dtype=bool)
    for part in parts:
        inside = np.zeros(SIZE, dtype=bool)
        for (x0, y0), (x1, y1) in zip(part, part[1:] + part[:1], strict=True):
            crosses = (y0 > y) != (y1 > y)
            with np.errstate(divide="ignore", invalid="ignore"):
                inside ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        mask |= inside
    return mask
