"""Compare an image's pixels with its annotations, and with other images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from kemr_lightning.data.survey import Box
from kemr_lightning.doctor.findings import Finding

THUMB = 32
"""Side of the thumbnails that are compared."""

BRIGHTEST = 1.8
"""A blob is stain or a mark if it stands out from the background this many times as far as annotated pixels."""

CLEAR = 0.5
"""A blob must stand out from its surroundings by this share of what annotated pixels do."""

FAINT = 8.0
"""Annotated pixels that stand out by fewer grey levels do not show what a chromosome looks like."""

_TURNS: dict[str, Callable[[npt.NDArray[np.bool_]], npt.NDArray[np.bool_]]] = {
    "mirrored left to right": lambda mask: mask[:, ::-1],
    "mirrored top to bottom": lambda mask: mask[::-1],
    "rotated by 180 degrees": lambda mask: mask[::-1, ::-1],
}


def digest(pixels: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of an image's size and pixels ``(H, W)`` uint8; it does not depend on the file."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def thumbnail(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """A thumbnail for recognising copies whatever their size, brightness, contrast or polarity.

    Uneven lighting, which many images share, is removed, so that the positions of the chromosomes remain.

    Args:
        pixels: ``(H, W)`` uint8.

    Returns:
        ``(THUMB, THUMB)`` float32 of mean 0 and norm 1; zeros for an image without content.
    """
    large = cv2.resize(pixels, (4 * THUMB, 4 * THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
    flat = large - np.asarray(cv2.GaussianBlur(large, (0, 0), 16.0), dtype=np.float32)
    small = np.asarray(cv2.resize(flat, (THUMB, THUMB), interpolation=cv2.INTER_AREA), dtype=np.float32)
    small -= small.mean()
    norm = float(np.linalg.norm(small))
    scaled: npt.NDArray[np.float32] = small / norm if norm > 1e-3 * THUMB else np.zeros_like(small)
    return scaled


def contrast(pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> float:
    """How far the pixels under a mask stand out.

    Args:
        pixels: ``(H, W)`` uint8.
        mask: ``(H, W)`` bool.

    Returns:
        Mean inside the mask minus mean outside it, in standard deviations of the image; 0 if the mask is empty or full.
    """
    inside = pixels[mask]
    if inside.size == 0 or inside.size == pixels.size:
        return 0.0
    spread = float(pixels.std())
    total = float(pixels.sum(dtype=np.float64)) - float(inside.sum(dtype=np.float64))
    outside = total / (pixels.size - inside.size)
    return (float(inside.mean()) - outside) / spread if spread > 0 else 0.0


LEAST_CONTRAST = 0.5
"""In standard deviations. Annotated chromosomes of real metaphases stand out by 1.5 or more, random outlines by 0."""


def place_findings(name: str, pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> list[Finding]:
    """Find annotations that do not lie on the chromosomes, such as those of another image.

    Args:
        name: The image.
        pixels: ``(H, W)`` uint8.
        mask: ``(H, W)`` bool, every annotated pixel.
    """
    own = abs(contrast(pixels, mask))
    if own >= 2 * LEAST_CONTRAST or not mask.any():
        return []
    turned = {how: abs(contrast(pixels, turn(mask))) for how, turn in _TURNS.items()}
    how = max(turned, key=lambda name: turned[name])
    if turned[how] >= 2 * own and turned[how] >= 2 * LEAST_CONTRAST:
        message = f"{how} they stand out by {turned[how]:.1f} standard deviations, as they are by {own:.1f}"
        return [Finding("turned", name, message)]
    if own < LEAST_CONTRAST:
        message = f"annotated pixels stand out from the rest by {own:.1f} standard deviations only"
        return [Finding("off_target", name, message)]
    return []


def unlabelled(
    pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], area: float, width: float
) -> list[tuple[Box, int]]:
    """Find blobs that look like the annotated chromosomes and are not annotated.

    Pixels belong to a blob if they stand out from the background at least half as much as the median annotated pixel.
    The annotations with a rim around them and thin remains are taken away. A blob is reported if its area is 0.3 to 3
    times the typical one, its width 0.5 to 1.5 times, its brightness is like that of annotated pixels, and it stands
    out from its direct surroundings. Most nuclei and parts of them, stain and dust fail one of these.

    Args:
        pixels: ``(H, W)`` uint8.
        mask: ``(H, W)`` bool, every annotated pixel.
        area: Typical chromosome area, in pixels.
        width: Typical chromosome width, in pixels.

    Returns:
        The box of each blob, and its area in pixels.
    """
    near = _grown(mask, max(2, round(width / 4)))
    if near.all() or not mask.any():
        return []
    smooth = np.asarray(cv2.GaussianBlur(pixels, (0, 0), max(width / 12, 0.5)), dtype=np.float32)
    # The background is uneven: the local level counts, not that of the whole image.
    lifted = smooth - _ground(smooth, near, 8 * width)
    inside = float(np.median(lifted[mask]))
    if abs(inside) < FAINT:
        return []
    found = ((lifted * np.sign(inside) > abs(inside) / 2) & ~near).astype(np.uint8)
    opened = cv2.morphologyEx(found, cv2.MORPH_OPEN, _disc(max(1, round(width / 8))))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    blobs = []
    for number in range(1, count):
        left, top, across, down, size = (int(value) for value in stats[number])
        if not 0.3 * area <= size <= 3 * area:
            continue
        # Look at the surroundings as well: a part of a nucleus lies on a nucleus.
        reach = max(4, round(width / 2))
        rows, columns = (
            slice(max(0, top - reach), top + down + reach),
            slice(max(0, left - reach), left + across + reach),
        )
        part = parts[rows, columns] == number
        thick = 2 * float(cv2.distanceTransform(np.pad(part.astype(np.uint8), 1), cv2.DIST_L2, 5).max())
        ring = _grown(part, reach) & ~_grown(part, max(2, reach // 2)) & ~near[rows, columns]
        level = float(np.median(lifted[rows, columns][part])) / inside
        around = float(np.median(lifted[rows, columns][ring])) / inside if ring.any() else 1.0
        if 0.5 * width <= thick <= 1.5 * width and level <= BRIGHTEST and level - around >= CLEAR:
            blobs.append(((float(left), float(top), float(left + across), float(top + down)), size))
    return blobs


def _disc(radius: int) -> npt.NDArray[np.uint8]:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)


def _grown(mask: npt.NDArray[np.bool_], radius: int) -> npt.NDArray[np.bool_]:
    grown: npt.NDArray[np.bool_] = np.asarray(cv2.dilate(mask.astype(np.uint8), _disc(radius))) > 0
    return grown


def _ground(smooth: npt.NDArray[np.float32], near: npt.NDArray[np.bool_], sigma: float) -> npt.NDArray[np.float32]:
    """Local mean of the pixels away from annotations, by normalised convolution on a coarse grid.

    Source: Knutsson and Westin, Normalized and differential convolution, CVPR 1993.

    Args:
        smooth: ``(H, W)`` float32 grey levels.
        near: ``(H, W)`` bool, the pixels to leave out.
        sigma: Width of the Gaussian in pixels.
    """
    height, width = smooth.shape
    step = max(1, round(sigma / 4))
    small = (max(1, width // step), max(1, height // step))
    # Chromosomes without annotations are bright or dark: clip them to the usual range.
    outside = smooth[~near]
    low, middle, high = np.percentile(outside[:: max(1, outside.size // 20000)], [10, 50, 90])
    weight = cv2.resize((~near).astype(np.float32), small, interpolation=cv2.INTER_AREA)
    value = cv2.resize(np.where(near, 0, smooth.clip(low, high)), small, interpolation=cv2.INTER_AREA)
    spread = sigma / step
    total = cv2.GaussianBlur(weight, (0, 0), spread) + 1e-6
    level = (cv2.GaussianBlur(value, (0, 0), spread) + 1e-6 * float(middle)) / total
    ground: npt.NDArray[np.float32] = np.asarray(cv2.resize(level, (width, height), interpolation=cv2.INTER_LINEAR))
    return ground
