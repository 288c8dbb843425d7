"""Copy and paste of chromosomes within an image, so that a model sees touching and crossing ones more often.

Where bright chromosomes cross, their light adds; where dark ones cross, light is absorbed twice. Copies are blended in
the same way instead of replacing what lies beneath. Stain, focus and light are the same throughout one image, so a copy
looks like any other chromosome of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from kemr_lightning.core.errors import SettingError, settings_under
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import Annotation, rasterise
from kemr_lightning.data.checks import check_fraction
from kemr_lightning.data.warp import Affine, Image, warp_image, warp_polygon

_RIM = 3
"""Width in pixels of the rim around an instance that is copied along with it, fading outwards."""


@dataclass(frozen=True)
class CopyPaste:
    """Pastes rotated, possibly mirrored copies of instances that stand alone onto the same image.

    Attributes:
        p: Fraction of the samples that get copies.
        most: Largest number of copies on one sample, at least 1.
        near: Fraction of the copies that are laid on or near another instance; the others fall anywhere on the crop.

    Raises:
        SettingError: A value is out of range.
    """

    p: float = 0.5
    most: int = 6
    near: float = 0.7

    def __post_init__(self) -> None:
        with settings_under("augmentation.paste"):
            check_fraction("p", self.p)
            check_fraction("near", self.near)
            if self.most < 1:
                raise SettingError("most", self.most, "allows no copies", "Give at least 1")

    def __call__(
        self,
        image: Image,
        annotations: Sequence[Annotation],
        affine: Affine,
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[Image, list[Annotation]]:
        """Add copies to an image.

        Args:
            image: ``(H, W)`` uint8; not changed.
            annotations: Its instances; those with outlines are copied.
            affine: The map from the image to the crop that will be taken from it; copies are laid where the crop shows
                them.
            size: ``(H', W')`` of that crop.
            rng: Source of randomness.

        Returns:
            The image with the copies, and all instances, the copies last.
        """
        outlined = [annotation for annotation in annotations if annotation.polygons and not annotation.patches]
        if not outlined or rng.random() >= self.p:
            return image, list(annotations)
        image, result = image.copy(), list(annotations)
        # Copies go near the instances whose centres the crop shows.
        boxes = np.array([annotation.bounds() for annotation in annotations])
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        seen = warp_polygon(middles, affine)
        targets = middles[((seen > 0) & (seen < (size[1], size[0]))).all(axis=1)]
        for _ in range(int(rng.integers(1, self.most + 1))):
            donor = outlined[int(rng.integers(len(outlined)))]
            cut = _cut_out(image, donor, result)
            if cut is None:
                continue
            if len(targets) and rng.random() < self.near:
                goal = targets[int(rng.integers(len(targets)))] + rng.normal(0, 12, 2)
            else:
                point = rng.uniform(0, 1, 2) * (size[1], size[0])
                goal = np.linalg.solve(affine[:, :2], point - affine[:, 2])
            turn = _turn_about(donor, goal, rng)
            if _lay(image, cut, turn):
                moved = tuple(warp_polygon(polygon, turn) for polygon in donor.polygons)
                result.append(replace(donor, polygons=moved, raw=()))
        return image, result


@dataclass(frozen=True)
class _CutOut:
    """What one instance adds to its background.

    Attributes:
        x0: First column of the window.
        y0: First row of the window.
        change: ``(h, w)`` float32. For a bright instance, grey levels above the background; for a dark one, the
            fraction of the light that is absorbed.
        bright: Whether the instance is brighter than its background.
    """

    x0: int
    y0: int
    change: npt.NDArray[np.float32]
    bright: bool


def _cut_out(image: Image, donor: Annotation, annotations: Sequence[Annotation]) -> _CutOut | None:
    """Separate an instance from its background; None if it is outside the image or does not stand alone."""
    size = (int(image.shape[0]), int(image.shape[1]))
    patch = rasterise(donor.polygons, size)
    if patch is None:
        return None
    x0, y0 = max(patch.x0 - 2 * _RIM, 0), max(patch.y0 - 2 * _RIM, 0)
    x1, y1 = min(patch.window[2] + 2 * _RIM, size[1]), min(patch.window[3] + 2 * _RIM, size[0])
    mask = _on_window(patch, (x0, y0, x1, y1))
    reach = cv2.dilate(mask, np.ones((2 * _RIM + 1, 2 * _RIM + 1), np.uint8)).astype(np.uint8)
    others = np.zeros_like(mask)
    for other in annotations:
        if other is donor or other.box_only:
            continue
        left, top, right, bottom = other.bounds()
        if left < x1 and right > x0 and top < y1 and bottom > y0:
            parts = [rasterise(other.polygons, size), *other.patches]
            for part in parts:
                if part is not None:
                    others |= _on_window(part, (x0, y0, x1, y1))
    if (others & reach).any():
        return None
    window = image[y0:y1, x0:x1].astype(np.float32)
    around = window[(reach == 0) & (others == 0)]
    if around.size == 0:
        return None
    ground = float(np.median(around))
    bright = float(window[mask > 0].mean()) > ground
    fade = cv2.blur(reach.astype(np.float32), (_RIM, _RIM))
    fade[mask > 0] = 1
    change = window - ground if bright else 1 - (window / max(ground, 1.0)).clip(0, 1)
    return _CutOut(x0, y0, (change * fade).astype(np.float32), bright)


def _on_window(patch: Patch, window: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """The part of a patch inside a window ``(x0, y0, x1, y1)``: ``(h, w)`` uint8, 0 or 1."""
    x0, y0, x1, y1 = window
    left, top, right, bottom = patch.window
    mask = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    a, b, c, d = max(left, x0), max(top, y0), min(right, x1), min(bottom, y1)
    if c > a and d > b:
        mask[b - y0 : d - y0, a - x0 : c - x0] = patch.values.numpy()[b - top : d - top, a - left : c - left]
    return mask


def _turn_about(donor: Annotation, goal: npt.NDArray[np.float64], rng: np.random.Generator) -> Affine:
    """A random rotation, with or without a reflection, that moves an instance's centre to a point."""
    x0, y0, x1, y1 = donor.bounds()
    angle = rng.uniform(0, 2 * math.pi)
    cosine, sine = math.cos(angle), math.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([1.0, rng.choice([-1.0, 1.0])])
    shift = goal - linear @ np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return np.concatenate([linear, shift[:, None]], axis=1)


def _lay(image: Image, cut: _CutOut, turn: Affine) -> bool:
    """Blend a copy into the image, in place; False if it would lie outside."""
    height, width = cut.change.shape
    left, top, right, bottom = cut.x0, cut.y0, cut.x0 + width, cut.y0 + height
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)
    moved = warp_polygon(corners, turn)
    left, top = np.maximum(np.floor(moved.min(axis=0)), 0).astype(int).tolist()
    right, bottom = np.ceil(moved.max(axis=0)).astype(int).tolist()
    right, bottom = min(right, image.shape[1]), min(bottom, image.shape[0])
    if right <= left or bottom <= top:
        return False
    local = turn.copy()
    local[:, 2] += turn[:, :2] @ np.array([cut.x0, cut.y0]) - np.array([left, top])
    change = warp_image(cut.change, local, (bottom - top, right - left), 0)
    below = image[top:bottom, left:right].astype(np.float32)
    laid = below + change if cut.bright else below * (1 - change)
    image[top:bottom, left:right] = np.rint(laid.clip(0, 255)).astype(np.uint8)
    return True
