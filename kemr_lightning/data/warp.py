"""Affine maps of images, outlines and bitmaps in pixel-corner coordinates, and resizing.

Coordinates are pixel corners, so OpenCV, which counts from pixel centres, gets a map shifted by half a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch

from kemr_lightning.core import geometry
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import Polygon, clip_patch, tight_patch

Image = npt.NDArray[np.uint8]
Pixels = TypeVar("Pixels", bound=npt.NDArray[Any])
Affine = npt.NDArray[np.float64]
"""``(2, 3)`` float64: ``(x', y') = A (x, y, 1)`` between pixel-corner coordinates."""


def resize_scale(size: tuple[int, int], resize: Sequence[int] | None) -> float:
    """The factor that fits an image into a frame, aspect kept; 1 without a frame.

    Args:
        size: ``(H, W)`` of the image.
        resize: ``(width, height)`` of the frame, or None. Smaller images are enlarged to fit.
    """
    if resize is None:
        return 1.0
    return min(resize[0] / size[1], resize[1] / size[0])


def resize_image(image: Image, scale: float) -> Image:
    """Resize by a factor, as images are resized for prediction (`geometry.resize_image`)."""
    height, width = image.shape
    target = (max(1, round(height * scale)), max(1, round(width * scale)))
    resized: Image = geometry.resize_image(torch.from_numpy(image), target).numpy()
    return resized


def background_level(image: Image) -> int:
    """The most frequent grey level, smoothed over 5 levels: metaphases are mostly background."""
    counts = np.convolve(np.bincount(image.ravel()[::7], minlength=256), np.ones(5), mode="same")
    return int(counts.argmax())


def warp_image(image: Pixels, affine: Affine, size: tuple[int, int], fill: float) -> Pixels:
    """Move an image by an affine map of pixel-corner coordinates.

    Args:
        image: ``(H, W)`` uint8 or float32.
        affine: The map from the image to the result.
        size: ``(H', W')`` of the result.
        fill: Grey level where the image does not reach.
    """
    flags = cv2.INTER_NEAREST if _on_grid(affine) else cv2.INTER_LINEAR
    moved: Any = cv2.warpAffine(image, _centred(affine), (size[1], size[0]), flags=flags, borderValue=fill)
    warped: Pixels = moved.astype(image.dtype)
    return warped


def warp_polygon(polygon: Polygon, affine: Affine) -> Polygon:
    """Move ``(K, 2)`` corners exactly."""
    moved: Polygon = polygon @ affine[:, :2].T + affine[:, 2]
    return moved


def warp_patch(patch: Patch, affine: Affine, size: tuple[int, int]) -> Patch | None:
    """Move a bitmap: warped as an image is, then cut at one half. None if nothing is left in ``size``."""
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
    """The same map between pixel-centre coordinates, which are smaller by one half."""
    shifted = affine.copy()
    shifted[:, 2] += affine[:, :2] @ np.array([0.5, 0.5]) - 0.5
    return shifted


def _on_grid(affine: Affine) -> bool:
    """Whether the map takes pixels to pixels: quarter turns, flips and whole shifts."""
    whole = np.abs(affine - np.rint(affine)).max() < 1e-9
    return bool(whole and abs(abs(np.linalg.det(affine[:, :2])) - 1) < 1e-9)


def clip_polygon(polygon: Polygon, size: tuple[int, int]) -> Polygon:
    """Cut a polygon to an image of ``(H, W)`` (Sutherland and Hodgman, CACM 17, 1974); it may come out empty."""
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
