"""Copy and paste of chromosomes within an image, so that touching and crossing ones are seen more often.

Light adds where bright chromosomes cross and is absorbed twice where dark ones do; the copies are laid down in that
way, not cut in. Within one image stain, focus and light are the same, so a copy looks like any other chromosome.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import Annotation, rasterise
from kemr_lightning.data.warp import Affine, Image, warp_image, warp_polygon

_RIM = 3
"""Pixels of surroundings that are copied along, fading."""


@dataclass(frozen=True)
class CopyPaste:
    """Lays turned copies of instances that stand alone onto the same image.

    Attributes:
        p: Part of the samples that get copies.
        most: Largest number of copies on one sample.
        near: Part of the copies laid on or against another instance; the others fall anywhere on the crop.
    """

    p: float = 0.5
    most: int = 6
    near: float = 0.7

    def __call__(
        self,
        image: Image,
        annotations: Sequence[Annotation],
        affine: Affine,
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[Image, list[Annotation]]:
        """Add copies.

        Args:
            image: ``(H, W)`` uint8; left as it is.
            annotations: Its instances; those with outlines are copied.
            affine: The map from the image to the crop that will be made of it: copies are laid where it will see them.
            size: ``(H', W')`` of that crop.
            rng: Where all chance comes from.

        Returns:
            The image and all instances, the copies last.
        """
        outlined = [annotation for annotation in annotations if annotation.polygons and not annotation.patches]
        if not outlined or rng.random() >= self.p:
            return image, list(annotations)
        image, result = image.copy(), list(annotations)
        # Annotations whose middles the crop sees: copies go near them.
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
        x0: Column of the window.
        y0: Row of the window.
        change: ``(h, w)`` float32. Bright instances: grey levels above the background. Dark ones: the part of the light
            that is absorbed.
        bright: Which of the two.
    """

    x0: int
    y0: int
    change: npt.NDArray[np.float32]
    bright: bool


def _cut_out(image: Image, donor: Annotation, annotations: Sequence[Annotation]) -> _CutOut | None:
    """Separate an instance from its background; None unless it stands alone."""
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
    """A patch on a window that it may overlap in part: ``(h, w)`` uint8, 0 or 1."""
    x0, y0, x1, y1 = window
    left, top, right, bottom = patch.window
    mask = np.zeros((y1 - y0, x1 - x0), dtype=np.uint8)
    a, b, c, d = max(left, x0), max(top, y0), min(right, x1), min(bottom, y1)
    if c > a and d > b:
        mask[b - y0 : d - y0, a - x0 : c - x0] = patch.values.numpy()[b - top : d - top, a - left : c - left]
    return mask


def _turn_about(donor: Annotation, goal: npt.NDArray[np.float64], rng: np.random.Generator) -> Affine:
    """A random turn or mirrored turn that brings an instance's middle to a point."""
    x0, y0, x1, y1 = donor.bounds()
    angle = rng.uniform(0, 2 * math.pi)
    cosine, sine = math.cos(angle), math.sin(angle)
    linear = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([1.0, rng.choice([-1.0, 1.0])])
    shift = goal - linear @ np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return np.concatenate([linear, shift[:, None]], axis=1)


def _lay(image: Image, cut: _CutOut, turn: Affine) -> bool:
    """Lay a copy onto the image, in place; False if it would fall outside."""
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
