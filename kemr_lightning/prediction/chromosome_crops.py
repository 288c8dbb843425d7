"""Chromosomes cut out for karyotyping: upright, on a clean background, all at one scale, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
import numpy.typing as npt

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.prediction.medial_axis import medial_axis, resample

PROFILE_POINTS = 64
"""Number of positions along the axis at which the index gives the band profile."""

MARGIN = 4
"""Pixels of background around a chromosome."""


@dataclass(frozen=True)
class Measurement:
    """What the index says of one chromosome; lengths in pixels of the input file.

    Attributes:
        area: Pixels of the mask.
        length: Along the medial axis, from end to end.
        width: Area over length.
        angle: Degrees by which the image was rotated counter-clockwise to set the chromosome upright, in (-90, 90].
        x: Column of the mask's centre of gravity.
        y: Row of it.
        profile: Mean intensity across the chromosome, in [0, 255], at `PROFILE_POINTS` positions along its axis, from
            the crop's top.
    """

    area: int
    length: float
    width: float
    angle: float
    x: float
    y: float
    profile: tuple[int, ...]

    def row(self) -> dict[str, str | int | float]:
        """The columns of the index; the profile as numbers separated by spaces."""
        return {**asdict(self), "profile": " ".join(map(str, self.profile))}


def background_intensity(image: npt.NDArray[np.uint8], instances: Instances) -> int:
    """The background of the crops: white for dark chromosomes, black for bright ones.

    Args:
        image: ``(H, W)`` uint8.
        instances: The image's instances, with masks.

    Returns:
        255 or 0.
    """
    covered = np.zeros(image.shape, dtype=bool)
    for patch in instances.patches or []:
        x0, y0, x1, y1 = patch.window
        covered[y0:y1, x0:x1] |= patch.binary().numpy()
    if not covered.any() or covered.all():
        return 255 if np.median(image) >= 128 else 0
    return 255 if np.median(image[covered]) < np.median(image[~covered]) else 0


def measure_chromosome(image: npt.NDArray[np.uint8], patch: Patch) -> Measurement | None:
    """Measure a chromosome.

    Args:
        image: ``(H, W)`` uint8, the whole image.
        patch: The chromosome's mask.

    Returns:
        The measurement; None for an empty mask.
    """
    mask = patch.binary().numpy()
    if not mask.any():
        return None
    x0, y0, x1, y1 = patch.window
    axis = medial_axis(mask, image[y0:y1, x0:x1])
    rows, columns = np.nonzero(mask)
    dx, dy = axis.direction
    # The profile runs from what will be the upper end.
    start, end = axis.points[0], axis.points[-1]
    along = (end - start) @ np.array([dx, dy])
    profile = axis.profile if along >= 0 else axis.profile[::-1]
    return Measurement(
        area=int(mask.sum()),
        length=round(axis.length, 2),
        width=round(axis.width, 2),
        angle=round(float(np.degrees(np.arctan2(-dx, dy))), 2),
        x=round(x0 + float(columns.mean()) + 0.5, 2),
        y=round(y0 + float(rows.mean()) + 0.5, 2),
        profile=tuple(int(value) for value in np.rint(resample(profile, PROFILE_POINTS))),
    )


def upright_crop(
    image: npt.NDArray[np.uint8], patch: Patch, angle: float, ground: int, scale: float = 1.0
) -> npt.NDArray[np.uint8]:
    """Cut a chromosome out, its long axis upright.

    Args:
        image: ``(H, W)`` uint8, the whole image.
        patch: The chromosome's mask.
        angle: Degrees to rotate it by, as in `Measurement`.
        ground: Intensity of the background.
        scale: Crop pixels per image pixel.

    Returns:
        ``(h, w)`` uint8, as small as the rotated mask allows, with `MARGIN` pixels around it.
    """
    x0, y0, x1, y1 = patch.window
    mask = patch.binary().numpy()
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return np.full((1, 1), ground, dtype=np.uint8)
    radians = np.deg2rad(angle)
    # Image coordinates (y down) rotated counter-clockwise on the screen by the angle.
    turn = scale * np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    corners = np.stack([columns, rows], axis=1)[:, None] + np.array([[0, 0], [1, 0], [0, 1], [1, 1]])[None]
    placed = corners.reshape(-1, 2) @ turn.T
    low, high = np.floor(placed.min(axis=0)) - MARGIN, np.ceil(placed.max(axis=0)) + MARGIN
    width, height = (int(value) for value in high - low)
    # cv2 counts from pixel centres.
    offset = turn @ np.array([0.5, 0.5]) - low - 0.5
    affine = np.concatenate([turn, offset[:, None]], axis=1)
    cut = image[y0:y1, x0:x1]
    # The mask's own rim is continued outside, so that interpolation brings in nothing of the neighbours.
    filled = _fill(cut, mask)
    moved = cv2.warpAffine(filled, affine, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(
        mask.astype(np.float32), affine, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    blended = cover * moved.astype(np.float32) + (1 - cover) * ground
    crop: npt.NDArray[np.uint8] = np.rint(blended).clip(0, 255).astype(np.uint8)
    return crop


def _fill(cut: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The window with every pixel outside the mask set to the nearest one inside."""
    _, labels = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    values = np.zeros(int(labels.max()) + 1, dtype=np.uint8)
    values[labels[mask]] = cut[mask]
    filled: npt.NDArray[np.uint8] = values[labels]
    return filled


def shared_pixels(instances: Instances) -> tuple[int, list[int]]:
    """Count the pixels that lie in several masks.

    Args:
        instances: The instances of an image, with masks.

    Returns:
        How many pixels of the image do, and how many of each instance's pixels.
    """
    height, width = instances.image_size
    total = np.zeros((height, width), dtype=np.uint8)
    patches: Sequence[Patch] = instances.patches or []
    windows = [np.s_[patch.y0 : patch.window[3], patch.x0 : patch.window[2]] for patch in patches]
    for patch, window in zip(patches, windows, strict=True):
        total[window] += patch.binary().numpy() & (total[window] < 2)
    each = [int((patch.binary().numpy() & (total[w] > 1)).sum()) for patch, w in zip(patches, windows, strict=True)]
    return int((total > 1).sum()), each
