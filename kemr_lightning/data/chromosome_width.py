"""How wide chromosomes are: of a mask, and estimated from an image alone.

A detector sees chromosomes best at the width that it was trained on. Magnification and camera change it fourfold from
one laboratory to the next; the image itself tells it, because chromosomes are strips of one width.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from kemr_lightning.data.stain import stained
from kemr_lightning.data.warp import Image

LONGEST_SIDE = 900
"""Pixels; larger images are shrunk to it for the estimate, which needs no more."""

_ELONGATED = 1.6
"""Least area of a chromosome-like region, in squares of its width; nuclei and specks are rounder."""

_FEWEST = 10
"""Ridge pixels that an estimate needs at least."""


def ridge_widths(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """The local width of a mask along the ridge of its distance transform.

    Args:
        mask: ``(H, W)`` bool.

    Returns:
        ``(H, W)`` float32, the width in pixels that each pixel would have as part of the ridge (twice the distance to
        the background, less one), and ``(H, W)`` bool, the ridge.
    """
    padded = np.pad(mask.astype(np.uint8), 1)
    distance = np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5), dtype=np.float32)[1:-1, 1:-1]
    highest = cv2.dilate(distance, np.ones((3, 3), np.uint8))
    return 2 * distance - 1, (distance >= highest - 1e-3) & (distance > 0.9)


def mask_width(mask: npt.NDArray[np.bool_]) -> float | None:
    """Median width along the ridge of a mask ``(H, W)`` bool, in pixels; None if it is empty."""
    widths, ridge = ridge_widths(mask)
    return float(np.median(widths[ridge])) if ridge.any() else None


def estimate_width(image: Image) -> float | None:
    """Estimate the width of the chromosomes in an image.

    Of the stained regions, those that are too round (nuclei, specks) are left out; the estimate is the median width
    along the ridges of the others, each pixel weighted by its width, after widths far from it are left out.

    Args:
        image: ``(H, W)`` uint8, dark on bright or bright on dark.

    Returns:
        The width in pixels of ``image``; None if nothing in it looks like a chromosome.
    """
    shrink = min(1.0, LONGEST_SIDE / max(image.shape))
    if shrink < 1:
        image = np.asarray(cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    region_mask = stained(image)
    widths, ridge = ridge_widths(region_mask)
    regions, count = ndimage.label(region_mask, np.ones((3, 3)))
    on, region = widths[ridge], regions[ridge]
    if on.size < _FEWEST:
        return None
    widest = np.zeros(count + 1, dtype=np.float32)
    np.maximum.at(widest, region, on)
    area = np.bincount(regions.ravel(), minlength=count + 1).astype(float)
    long = area > _ELONGATED * np.maximum(widest, 1) ** 2
    if long[region].sum() >= _FEWEST:
        on = on[long[region]]
    middle = _weighted_median(on)
    for _ in range(3):
        near = on[(on > 0.5 * middle) & (on < 1.8 * middle)]
        middle = _weighted_median(near) if near.size else middle
    return float(middle / shrink)


def _weighted_median(widths: npt.NDArray[np.float32]) -> float:
    """The width that half of the area along the ridges is narrower than."""
    ordered = np.sort(widths)
    areas = np.cumsum(ordered)
    return float(ordered[min(int(np.searchsorted(areas, areas[-1] / 2)), len(ordered) - 1)])
