"""Small images with bright rods, exact masks, and predictions that are blurred and a pixel too large."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import binary_dilation, gaussian_filter

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.learning.examples import Case


def rods(seed: int, count: int = 6, dilate: int = 1) -> Case:
    """One image of ``count`` rods in a row, each predicted by its mask dilated and blurred."""
    rng = np.random.default_rng(seed)
    height, width = 40, 22 * count
    image = rng.normal(30, 4, (height, width))
    found, truth, windows = [], [], []
    for number in range(count):
        mask = np.zeros((height, width), dtype=bool)
        top, left = 8 + int(rng.integers(0, 4)), 22 * number + 7
        mask[top : top + 20, left : left + 7] = True
        image[mask] += 110
        rows, columns = np.nonzero(mask)
        truth.append(Patch(int(columns.min()), int(rows.min()), torch.ones(20, 7, dtype=torch.bool)))
        loose = gaussian_filter(binary_dilation(mask, iterations=dilate).astype(np.float32), 1.2)
        x0, y0, x1, y1 = left - 5, top - 5, left + 12, top + 25
        windows.append([float(v) for v in (x0, y0, x1, y1)])
        found.append(Patch(x0, y0, torch.from_numpy(loose[y0:y1, x0:x1].copy())))
    boxes = torch.tensor(windows)
    ones = torch.ones(count, dtype=torch.int64)
    pixels = torch.from_numpy(np.clip(gaussian_filter(image, 0.5), 0, 255).astype(np.uint8))
    initial = Instances((height, width), boxes, torch.linspace(0.9, 0.6, count), ones, found)
    return Case(pixels, initial, Instances((height, width), boxes, torch.ones(count), ones, truth), seed)
