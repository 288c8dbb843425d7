"""Affine maps of images, outlines and bitmaps in pixel-corner coordinates, and resizing.

OpenCV's coordinates are those of pixel centres, so it is given a map shifted by half a pixel.
"""

from __future__ import annotations

from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch

from kemr_lightning.core.geometry import resize_image
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import Polygon, clip_patch, tight_patch

Image = npt.NDArray[np.uint8]
"""``(H, W)`` uint8 intensity."""

Pixels = TypeVar("Pixels", bound=npt.NDArray[Any])

Affine = npt.NDArray[np.float64]
"""``(2, 3)`` float64 matrix A with ``(x', y') = A (x, y, 1)``, between pixel-corner coordinates."""


def resize_pixels(image: Image, size: tuple[int, int]) -> Image:
    """Resize an image with the interpolation used for prediction.

    Args:
        image: ``(H, W)`` uint8.
        size: The new ``(H, W)``.

    Returns:
        uint8 of that size; the image itself if it has it.
    """
    if image.shape == size:
        return image
    resized: Image = resize_image(torch.tensor(image), size).numpy()
    return resized


def background_level(image: Image) -> int:
    """The most frequent grey level after a moving sum over 5 levels: most of a metaphase image is background."""
    counts = np.convolve(np.bincount(image.ravel()[::7], minlength=256), np.ones(5), mode="same")
    return int(counts.argmax())


def warp_image(image: Pixels, affine: Affine, size: tuple[int, int], fill: float) -> Pixels:
    """Warp an image by an affine map.

    Interpolation is bilinear, except that quarter turns, flips and whole shifts copy pixels unchanged.

    Args:
        image: ``(H, W)`` uint8 or float32.
        affine: The map from the image to the result.
        size: ``(H', W')`` of the result.
        fill: Grey level of the result where there is no image.

    Returns:
        ``(H', W')`` of the image's type.
    """
    flags = cv2.INTER_NEAREST if _on_grid(affine) else cv2.INTER_LINEAR
    moved: Any = cv2.warpAffine(image, _centred(affine), (size[1], size[0]), flags=flags, borderValue=fill)
    warped: Pixels = moved.astype(image.dtype)
    return warped


def warp_polygon(polygon: Polygon, affine: Affine) -> Polygon:
    """Map the ``(K, 2)`` corners of a polygon; exact."""
    moved: Polygon = polygon @ affine[:, :2].T + affine[:, 2]
    return moved


def warp_patch(patch: Patch, affine: Affine, size: tuple[int, int]) -> Patch | None:
    """Warp a bitmap as an image and threshold it at one half.

    Args:
        patch: Bool.
        affine: The map from the image to the result.
        size: ``(H', W')`` of the result.

    Returns:
        A tight bool patch inside the result; None if nothing of it lies there.
    """
    x0, y0, x1, y1 = patch.window
    corners = warp_polygon(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64), affine)
    left, top = np.floor(corners.min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil(corners.max(axis=0)).astype(int).tolist()
    local = affine.copy()
    local[:, 2] += affine[:, :2] @ np.array([x0, y0]) - np.array([left, top])
    values = patch.values.numpy().astype(np.uint8) * np.uint8(255)
    moved = warp_image(values, local, (bottom - top, right - left), 0)
    inside = clip_patch(Patch(left, top, torch.from_numpy(moved >= 128)), size)
    return None if inside is None else tight_patch(inside.values.numpy(), inside.x0, inside.y0)


def _centred(affine: Affine) -> Affine:
    """The same map in pixel-centre coordinates, which are smaller by 1/2."""
    shifted = affine.copy()
    shifted[:, 2] += affine[:, :2] @ np.array([0.5, 0.5]) - 0.5
    return shifted


def _on_grid(affine: Affine) -> bool:
    """Whether the map takes whole pixels to whole pixels: quarter turns, flips and whole shifts do."""
    whole = np.abs(affine - np.rint(affine)).max() < 1e-9
    return bool(whole and abs(abs(np.linalg.det(affine[:, :2])) - 1) < 1e-9)


def clip_polygon(polygon: Polygon, size: tuple[int, int]) -> Polygon:
    """Cut a polygon to an image of ``(H, W)``; the result may be empty.

    The algorithm is that of Sutherland & Hodgman, Communications of the ACM 17 (1974) 32.
    """
    height, width = size
    if polygon.min() >= 0 and (polygon.max(axis=0) <= (width, height)).all():
        return polygon
    for axis, sign, limit in ((0, 1, 0.0), (0, -1, float(width)), (1, 1, 0.0), (1, -1, float(height))):
        if len(polygon) == 0:
            break
        inside = sign * polygon[:, axis] >= sign * limit
        if inside.all():
            continue
        corners: list[npt.NDArray[np.float64]] = []
        for index, corner in enumerate(polygon):
            before = polygon[index - 1]
            if inside[index] != inside[index - 1]:
                part = (limit - before[axis]) / (corner[axis] - before[axis])
                cut = before + part * (corner - before)
                cut[axis] = limit
                corners.append(cut)
            if inside[index]:
                corners.append(corner)
        polygon = np.array(corners, dtype=np.float64).reshape(-1, 2)
    return polygon
