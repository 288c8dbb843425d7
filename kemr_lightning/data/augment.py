"""Augmentation of training samples: one affine map for pixels and outlines, a crop, then light and noise.

Outlines are moved exactly and rasterised once, in the crop; bitmaps go through the same warp as the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from kemr_lightning.core.instances import Instances
from kemr_lightning.data.annotation import Annotation, instances_from_patches, polygon_area, rasterise, unite
from kemr_lightning.data.paste import CopyPaste
from kemr_lightning.data.warp import (
    Affine,
    Image,
    background_level,
    clip_polygon,
    warp_image,
    warp_patch,
    warp_polygon,
)


@dataclass(frozen=True)
class Augmentation:
    """Random geometry, crop, light and noise for one training image.

    Attributes:
        crop_size: ``(height, width)`` of every result, in pixels; None keeps each image's own frame.
        scale: Range of the random scale, drawn evenly on a logarithmic axis.
        rotate: Largest free rotation either way, in degrees.
        resample_p: Part of the samples that are scaled and freely rotated; the others get only quarter turns and flips,
            which leave their pixels as they are.
        turns: Quarter turns and flips, all eight equally likely.
        focus: Part of the crops that are laid around a randomly chosen instance; the others fall anywhere.
        brightness: Largest shift either way, as a part of 255.
        contrast: Range of the factor about the image's mean.
        gamma: Range of the exponent, drawn evenly on a logarithmic axis.
        invert_p: Part of the samples whose polarity is turned (dark on bright becomes bright on dark).
        shading: Largest linear change of light from one side to the other, as a part of 255.
        noise: Largest standard deviation of the added Gaussian noise, in grey levels.
        blur: Largest standard deviation of the Gaussian blur, in pixels.
        blur_p: Part of the samples that are blurred.
        min_visible: An instance cut by the crop stays a target if at least this part of it is visible …
        min_area: … and at least this many pixels. The others are left out of the targets.
        paste: Lays copies of instances onto the image first; None for none.
    """

    crop_size: tuple[int, int] | None = (384, 384)
    scale: tuple[float, float] = (0.8, 1.25)
    rotate: float = 180.0
    resample_p: float = 0.7
    turns: bool = True
    focus: float = 0.9
    brightness: float = 0.1
    contrast: tuple[float, float] = (0.75, 1.33)
    gamma: tuple[float, float] = (0.75, 1.33)
    invert_p: float = 0.0
    shading: float = 0.06
    noise: float = 4.0
    blur: float = 0.8
    blur_p: float = 0.2
    min_visible: float = 0.25
    min_area: int = 16
    paste: CopyPaste | None = None

    def __call__(
        self,
        image: Image,
        annotations: Sequence[Annotation],
        label_ids: Mapping[str, int],
        rng: np.random.Generator,
    ) -> tuple[Image, Instances]:
        """Make one training sample.

        Args:
            image: ``(H, W)`` uint8, at the scale the model is to see.
            annotations: In the coordinates of ``image``.
            label_ids: Class name to label, from 1; annotations of other classes are left out.
            rng: Where all chance comes from.

        Returns:
            ``crop_size`` uint8 pixels and the instances visible on them.
        """
        known = [annotation for annotation in annotations if annotation.label in label_ids]
        size = (int(image.shape[0]), int(image.shape[1]))
        affine = self.draw_geometry(size, known, rng)
        if self.paste is not None:
            image, known = self.paste(image, known, affine, self.result_size(size), rng)
        moved = warp_image(image, affine, self.result_size(size), background_level(image))
        instances = self.move(known, label_ids, affine, size)
        return self.change_light(moved, rng), instances

    def result_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """``(H, W)`` of the sample made of an image of ``(H, W)``."""
        return size if self.crop_size is None else (self.crop_size[0], self.crop_size[1])

    def draw_geometry(
        self, size: tuple[int, int], annotations: Sequence[Annotation], rng: np.random.Generator
    ) -> Affine:
        """Draw the map from an image of ``(H, W)`` to the crop."""
        height, width = self.result_size(size)
        linear = np.eye(2)
        exact = rng.random() >= self.resample_p
        if not exact:
            angle = math.radians(rng.uniform(-self.rotate, self.rotate))
            cosine, sine = math.cos(angle), math.sin(angle)
            linear = _log_uniform(self.scale, rng) * np.array([[cosine, -sine], [sine, cosine]])
        if self.turns:
            # A frame that is kept and not square allows only the turns that keep its sides: the even ones.
            every = 2 if self.crop_size is None and height != width else 1
            linear = _TURNS[every * int(rng.integers(8 // every))] @ linear
        # Half the extent of the crop on the source image, along its axes.
        crop = np.array([width, height], dtype=np.float64)
        reach = np.abs(np.linalg.inv(linear)) @ crop / 2
        whole = np.array([size[1], size[0]], dtype=np.float64)
        if self.crop_size is None:
            centre = whole / 2
        elif annotations and rng.random() < self.focus:
            x0, y0, x1, y1 = annotations[int(rng.integers(len(annotations)))].bounds()
            centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + rng.uniform(-0.7, 0.7, 2) * crop / 2
        else:
            centre = rng.uniform(0, 1, 2) * whole
        low, high = np.minimum(reach, whole / 2), np.maximum(whole - reach, whole / 2)
        centre = centre.clip(low, high)
        shift = crop / 2 - linear @ centre
        return np.concatenate([linear, (np.rint(shift) if exact else shift)[:, None]], axis=1)

    def move(
        self, annotations: Sequence[Annotation], label_ids: Mapping[str, int], affine: Affine, size: tuple[int, int]
    ) -> Instances:
        """The instances that a crop of an image of ``(H, W)`` shows."""
        height, width = self.result_size(size)
        growth = abs(float(np.linalg.det(affine[:, :2])))
        patches, labels = [], []
        for annotation in annotations:
            polygons = [warp_polygon(clip_polygon(polygon, size), affine) for polygon in annotation.polygons]
            polygons = [polygon for polygon in polygons if len(polygon) >= 3]
            near = [p for p in polygons if (p.max(axis=0) > 0).all() and (p.min(axis=0) < (width, height)).all()]
            seen = rasterise(near, (height, width)) if near else None
            if annotation.patches:
                parts = [seen, *(warp_patch(patch, affine, (height, width)) for patch in annotation.patches)]
                seen = unite([part for part in parts if part is not None])
            if seen is None:
                continue
            full = sum(polygon_area(polygon) for polygon in polygons)
            full += growth * sum(patch.area() for patch in annotation.patches)
            if seen.area() < max(self.min_area, self.min_visible * full):
                continue
            patches.append(seen)
            labels.append(label_ids[annotation.label])
        return instances_from_patches(patches, labels, (height, width))

    def change_light(self, image: Image, rng: np.random.Generator) -> Image:
        """Blur, then contrast, gamma, brightness and polarity as one look-up table, then shading and noise."""
        if rng.random() < self.blur_p:
            image = cv2.GaussianBlur(image, (0, 0), max(0.2, rng.uniform(0, self.blur))).astype(np.uint8)
        levels = np.arange(256, dtype=np.float64) / 255
        mean = float(image[::4, ::4].mean()) / 255
        levels = (mean + (levels - mean) * _log_uniform(self.contrast, rng)).clip(0, 1)
        levels = levels ** _log_uniform(self.gamma, rng) + rng.uniform(-self.brightness, self.brightness)
        if rng.random() < self.invert_p:
            levels = 1 - levels
        lit: npt.NDArray[np.float32] = (levels.clip(0, 1) * 255).astype(np.float32)[image]
        height, width = image.shape
        lit += np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(rng.uniform(-1, 1) * self.shading * 255)
        lit += np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * np.float32(
            rng.uniform(-1, 1) * self.shading * 255
        )
        lit += rng.standard_normal(lit.shape, dtype=np.float32) * np.float32(rng.uniform(0, self.noise))
        changed: Image = np.rint(lit.clip(0, 255)).astype(np.uint8)
        return changed


# The eight symmetries of the square; those with even numbers keep the sides of a rectangle.
_TURNS = [
    np.array(matrix, dtype=np.float64)
    for pair in zip(
        ([[1, 0], [0, 1]], [[-1, 0], [0, 1]], [[1, 0], [0, -1]], [[-1, 0], [0, -1]]),
        ([[0, 1], [1, 0]], [[0, -1], [1, 0]], [[0, 1], [-1, 0]], [[0, -1], [-1, 0]]),
        strict=True,
    )
    for matrix in pair
]


def _log_uniform(span: tuple[float, float], rng: np.random.Generator) -> float:
    return math.exp(rng.uniform(math.log(span[0]), math.log(span[1])))
