"""Crops, parameters and measures that the tests of the engines share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from kemr_lightning.refinement import (
    CRFParams,
)
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.dense_crf import luma
from kemr_lightning.refinement.engines import compiled
from kemr_lightning.refinement.engines.exact import refine_exact

RANGE = [
    CRFParams(2, 9, 3, 3, 0, 5),
    CRFParams(2, 8, 1, 16, 4, 5),
    CRFParams(2, 35, 2, 2, 0, 5),
    CRFParams(3, 12, 2, 8, 2, 5),
    CRFParams(4, 60, 4, 16, 0, 5),
    CRFParams(4, 10, 3, 1, 1, 5),
    CRFParams(5, 15, 1, 4, 0, 5),
    CRFParams(6, 20, 2, 8, 2, 5),
    CRFParams(8, 35, 3, 4, 1, 5),
    CRFParams(8, 12, 2, 12, 3, 5),
    CRFParams(10, 25, 2, 6, 0, 5),
    CRFParams(12, 8, 2, 16, 0, 5),
    CRFParams(12, 60, 4, 2, 4, 5),
]


def crop_of(height: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A dark banded rod on a bright ground and a soft, displaced mask of it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    angle = rng.uniform(0, np.pi)
    along = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
    across = -(x - width / 2) * np.sin(angle) + (y - height / 2) * np.cos(angle)
    rod = (abs(along) < 0.33 * max(height, width)) & (abs(across) < 0.11 * max(height, width))
    bands = 40 * np.sin(along / rng.uniform(1.5, 3))
    picture = gaussian_filter(np.where(rod, 110 + bands, 210.0), 1) + rng.normal(0, 5, (height, width))
    moved = np.roll(rod, rng.integers(-2, 3, 2), (0, 1)).astype(float)
    mask = gaussian_filter(moved, 2.0)
    return torch.from_numpy(picture.clip(0, 255).astype(np.uint8)), torch.from_numpy(mask.clip(0, 1).astype(np.float32))


def texture_of(seed: int, colour: bool = False, amplitude: int = 128) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise in which a pixel has hardly any others like it, and soft blobs that have nothing to do with it."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(128 - amplitude, 128 + amplitude, (40, 40, 3) if colour else (40, 40)).astype(np.uint8)
    blobs = gaussian_filter(rng.normal(size=(40, 40)), 3.0)
    prob = 1 / (1 + np.exp(-2.5 * blobs / blobs.std()))
    return luma(torch.from_numpy(picture)), torch.from_numpy(prob.astype(np.float32))


def packed(shapes: list[tuple[int, int]]) -> Crops:
    pairs = [crop_of(*shape, seed) for seed, shape in enumerate(shapes)]
    return Crops.pack([image for image, _ in pairs], [prob for _, prob in pairs])


CROPS = packed([(46, 38), (30, 62), (41, 45)])


def table(params: CRFParams, crops: Crops = CROPS) -> torch.Tensor:
    return params.to_tensor().repeat(len(crops), 1)


def refine_compiled(crops: Crops, parameters: torch.Tensor, iterations: int, tolerance: float) -> torch.Tensor:
    """The compiled kernel, which must not leave a crop to others."""
    refined, left = compiled.refine_compiled(crops, parameters, iterations, tolerance)
    assert not left
    return refined


def mean_iou(a: torch.Tensor, b: torch.Tensor, crops: Crops = CROPS) -> float:
    ious = []
    for p, q in zip((a >= 0.5).split(crops.areas), (b >= 0.5).split(crops.areas), strict=True):
        union = int((p | q).sum())
        ious.append(int((p & q).sum()) / union if union else 1.0)
    return float(np.mean(ious))


@lru_cache
def by_brute_force(params: CRFParams) -> torch.Tensor:
    """`CROPS` refined by the exact engine."""
    return refine_exact(CROPS, table(params), params.iterations, 0.01)
