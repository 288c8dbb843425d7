"""Augmentation of training samples: one affine map for pixels and outlines, a crop, then light and noise.

Outlines are mapped exactly and rasterised once, in the crop; bitmaps go through the same warp as the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch

from kemr_lightning.core.errors import settings_under
from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.data.annotation import (
    Annotation,
    box_outline,
    crowd_regions,
    instances_from_patches,
    polygon_area,
    rasterise,
    unite,
    with_outline,
)
from kemr_lightning.data.checks import check_factors, check_fraction, check_not_negative, check_size
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
        crop_size: ``(height, width)`` of every result in pixels; None keeps the size of each image.
        scale: Range of the random scale, drawn uniformly on a logarithmic axis.
        rotate: Largest free rotation in either direction, in degrees.
        resample_p: Fraction of the samples that are scaled and freely rotated. The others get only quarter turns and
            flips, which copy pixels unchanged.
        turns: Whether to apply quarter turns and flips, all eight equally likely.
        focus: Fraction of the crops that are placed around a randomly chosen instance; the others fall anywhere.
        brightness: Largest shift in either direction, as a fraction of 255.
        contrast: Range of the factor around the image's mean, drawn uniformly on a logarithmic axis.
        gamma: Range of the exponent, drawn uniformly on a logarithmic axis.
        invert_p: Fraction of the samples whose contrast is inverted (dark on bright becomes bright on dark).
        shading: Largest linear change of brightness from one side to the other, as a fraction of 255.
        noise: Largest standard deviation of the added Gaussian noise, in grey levels.
        blur: Largest standard deviation of the Gaussian blur, in pixels.
        blur_p: Fraction of the samples that are blurred.
        min_visible: An instance cut by the crop remains a target if at least this fraction of its area is visible …
        min_area: … and at least this many pixels.
        paste: Pastes copies of instances onto the image first; None for no copies.

    Raises:
        SettingError: A value is out of range.
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

    def __post_init__(self) -> None:
        # Hydra builds this object before the data module that it belongs to, so only here can the group be named.
        with settings_under("augmentation"):
            if self.crop_size is not None:
                check_size("crop_size", self.crop_size, "[height, width]")
            for name in ("scale", "contrast", "gamma"):
                check_factors(name, getattr(self, name))
            for name in ("resample_p", "focus", "invert_p", "blur_p", "min_visible"):
                check_fraction(name, getattr(self, name))
            for name in ("rotate", "brightness", "shading", "noise", "blur", "min_area"):
                check_not_negative(name, getattr(self, name))

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
            rng: Source of randomness.

        Returns:
            ``(H', W')`` uint8 pixels, of `result_size`, and the instances visible on them.
        """
        known = [annotation for annotation in annotations if annotation.label in label_ids and not annotation.crowd]
        size = (int(image.shape[0]), int(image.shape[1]))
        affine = self.draw_geometry(size, known, rng)
        if self.paste is not None:
            image, known = self.paste(image, known, affine, self.result_size(size), rng)
        moved = warp_image(image, affine, self.result_size(size), background_level(image))
        instances = self.move(known, label_ids, affine, size)
        instances.ignored = self.move_crowds(annotations, label_ids, affine, size)
        return self.change_light(moved, rng), instances

    def result_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Size ``(H', W')`` of the sample made from an image of ``(H, W)``."""
        return size if self.crop_size is None else (self.crop_size[0], self.crop_size[1])

    def draw_geometry(
        self, size: tuple[int, int], annotations: Sequence[Annotation], rng: np.random.Generator
    ) -> Affine:
        """Draw the map from an image to its crop.

        Args:
            size: ``(H, W)`` of the image.
            annotations: Instances that the crop may be placed around.
            rng: Source of randomness.

        Returns:
            The map from the image's coordinates to the crop's. The crop stays inside the image where it fits.
        """
        height, width = self.result_size(size)
        linear = np.eye(2)
        exact = rng.random() >= self.resample_p
        if not exact:
            # A turned box is not the box of the turned chromosome.
            most = 0.0 if any(annotation.box_only for annotation in annotations) else self.rotate
            angle = math.radians(rng.uniform(-most, most))
            cosine, sine = math.cos(angle), math.sin(angle)
            linear = _log_uniform(self.scale, rng) * np.array([[cosine, -sine], [sine, cosine]])
        if self.turns:
            # An image that keeps its size and is not square allows only the symmetries of a rectangle, the even ones.
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
        """Map annotations to the crop and rasterise what it shows of them.

        Args:
            annotations: In the coordinates of the image.
            label_ids: Class name to label; it must have every annotation's class.
            affine: The map from the image to the crop.
            size: ``(H, W)`` of the image. Outlines are cut at its border first.

        Returns:
            The instances that are visible by `min_visible` and `min_area`. Those that have only a box fill it, and are
            not `outlined`.
        """
        patches, labels, outlined = [], [], []
        for annotation in annotations:
            seen, full = self._seen(annotation, affine, size)
            if seen is None or seen.area() < max(self.min_area, self.min_visible * full):
                continue
            patches.append(seen)
            labels.append(label_ids[annotation.label])
            outlined.append(not annotation.box_only)
        instances = instances_from_patches(patches, labels, self.result_size(size))
        return instances if all(outlined) else replace(instances, outlined=torch.tensor(outlined))

    def move_crowds(
        self, annotations: Sequence[Annotation], label_ids: Mapping[str, int], affine: Affine, size: tuple[int, int]
    ) -> Instances | None:
        """As `move` for the crowds among the annotations, of which anything visible is kept.

        Returns:
            The crowds as `Instances.ignored` has them.
        """
        moved = []
        for crowd in annotations:
            seen = self._seen(with_outline(crowd), affine, size)[0] if crowd.crowd else None
            if seen is not None:
                moved.append(Annotation(crowd.label, patches=(seen,), crowd=True))
        return crowd_regions(moved, label_ids, self.result_size(size))

    def _seen(self, annotation: Annotation, affine: Affine, size: tuple[int, int]) -> tuple[Patch | None, float]:
        """What the crop shows of an annotation, None if nothing; and its whole area at the crop's scale."""
        height, width = self.result_size(size)
        outlines = (
            annotation.polygons if annotation.box is None else (*annotation.polygons, box_outline(annotation.box))
        )
        polygons = [warp_polygon(clip_polygon(polygon, size), affine) for polygon in outlines]
        polygons = [polygon for polygon in polygons if len(polygon) >= 3]
        near = [p for p in polygons if (p.max(axis=0) > 0).all() and (p.min(axis=0) < (width, height)).all()]
        seen = rasterise(near, (height, width)) if near else None
        if annotation.patches:
            parts = [seen, *(warp_patch(patch, affine, (height, width)) for patch in annotation.patches)]
            seen = unite([part for part in parts if part is not None])
        full = sum(polygon_area(polygon) for polygon in polygons)
        growth = abs(float(np.linalg.det(affine[:, :2])))
        return seen, full + growth * sum(patch.area() for patch in annotation.patches)

    def change_light(self, image: Image, rng: np.random.Generator) -> Image:
        """Change the light of a sample.

        Blur comes first, then contrast, gamma, brightness and inversion as one look-up table, then shading and noise.

        Args:
            image: ``(H, W)`` uint8; not changed.
            rng: Source of randomness.

        Returns:
            ``(H, W)`` uint8.
        """
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


_TURNS = [
    np.array(matrix, dtype=np.float64)
    for pair in zip(
        ([[1, 0], [0, 1]], [[-1, 0], [0, 1]], [[1, 0], [0, -1]], [[-1, 0], [0, -1]]),
        ([[0, 1], [1, 0]], [[0, -1], [1, 0]], [[0, 1], [-1, 0]], [[0, -1], [-1, 0]]),
        strict=True,
    )
    for matrix in pair
]
"""The eight symmetries of the square; those at even positions are the four of a rectangle."""


def _log_uniform(span: tuple[float, float], rng: np.random.Generator) -> float:
    """Draw a number uniformly on a logarithmic axis."""
    return math.exp(rng.uniform(math.log(span[0]), math.log(span[1])))
