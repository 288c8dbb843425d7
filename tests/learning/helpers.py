"""Small images of bright rods with exact masks, predictions that are blurred and a pixel too large; experiences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import binary_dilation, gaussian_filter

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.learning.masked_images import MaskedImage
from kemr_lightning.refinement.experiences import Experiences
from kemr_lightning.refinement.states import STATE_NAMES


def rods(seed: int, count: int = 6, dilate: int = 1) -> MaskedImage:
    """One image with ``count`` rods in a row. The prediction of each is its mask, dilated and blurred."""
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
    return MaskedImage(pixels, initial, Instances((height, width), boxes, torch.ones(count), ones, truth), seed)


def by_heart(case: MaskedImage) -> MaskedImage:
    """The same image with almost the annotated masks, as predicted by a model that knows its images by heart."""
    patches = [Patch(patch.x0, patch.y0, patch.values.float() * 0.98 + 0.01) for patch in case.truth.patches or []]
    initial = replace(case.initial, boxes=case.truth.boxes, patches=patches)
    return replace(case, initial=initial)


def experiences(count: int) -> Experiences:
    """State 0 rises from 0 to 1; all other states are 0. The upper half gains 0.1 and the lower half loses 0.1."""
    states = torch.zeros(count, len(STATE_NAMES))
    states[:, 0] = torch.linspace(0, 1, count)
    before = torch.full((count,), 0.5)
    after = torch.where(torch.arange(count) < count // 2, 0.4, 0.6)
    return Experiences(states, torch.ones(count, dtype=torch.int64), before, after, torch.arange(count))
