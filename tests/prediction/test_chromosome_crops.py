from __future__ import annotations

import numpy as np
import pytest
import torch

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.prediction.chromosome_crops import (
    background_intensity,
    measure_chromosome,
    shared_pixels,
    upright_crop,
)
from tests.metrics.helpers import instances as made
from tests.metrics.helpers import patch
from tests.prediction.helpers import round_rod


def crop_of(mask: np.ndarray, image: np.ndarray, ground: int = 255, scale: float = 1.0) -> np.ndarray:
    found = measure_chromosome(image, patch(mask))
    assert found is not None
    return upright_crop(image, patch(mask), found.angle, ground, scale)


@pytest.mark.parametrize("degrees", [0, 25, 60, 90, 150, 179])
def test_crops_stand_upright_and_keep_their_area(degrees: float) -> None:
    mask = round_rod(80, 14, degrees)
    crop = crop_of(mask, np.full(mask.shape, 40, np.uint8))
    dark = crop < 148
    rows, columns = np.nonzero(dark)
    assert np.ptp(rows) + 1 == pytest.approx(80, abs=2)
    assert np.ptp(columns) + 1 == pytest.approx(14, abs=2)
    assert dark.sum() == pytest.approx(mask.sum(), rel=0.03)


def test_upright_crops_are_the_image_itself() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (60, 40), dtype=np.uint8)
    mask = np.zeros(image.shape, bool)
    mask[10:50, 15:25] = True
    mask[20:30, 20:25] = False
    crop = upright_crop(image, patch(mask), 0.0, 255)
    expected = np.where(mask, image, 255)[6:54, 11:29]
    np.testing.assert_array_equal(crop, expected)


def test_neighbours_do_not_show() -> None:
    # White neighbours touch the mask on both sides; after a turn nothing of them may bleed in.
    mask = round_rod(80, 14, 40)
    image = np.where(mask, 60, 255).astype(np.uint8)
    crop = crop_of(mask, image, ground=0)
    assert crop.max() <= 60


def test_the_scale_is_fixed() -> None:
    mask = round_rod(60, 14, 20)
    image = np.zeros(mask.shape, np.uint8)
    small, large = ((crop_of(mask, image, scale=scale) < 128).sum() for scale in (1.0, 2.0))
    assert large == pytest.approx(4 * small, rel=0.03)


def test_the_profile_starts_at_the_top_of_the_crop() -> None:
    for degrees in (10, 80, 100, 170):
        mask = round_rod(90, 14, degrees)
        y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
        along = (x - 60) * np.cos(np.deg2rad(degrees)) + (y - 60) * np.sin(np.deg2rad(degrees))
        image = (128 + along).clip(0, 255).astype(np.uint8)
        found = measure_chromosome(image, patch(mask))
        assert found is not None
        crop = upright_crop(image, patch(mask), found.angle, 255)
        middle = crop[:, crop.shape[1] // 2]
        inside = middle[6:-6]
        assert np.sign(float(inside[-1]) - inside[0]) == np.sign(found.profile[-1] - found.profile[0])
        assert found.area == mask.sum()
        assert (found.x, found.y) == (pytest.approx(60, abs=0.5), pytest.approx(60, abs=0.5))


def test_the_background_follows_the_stain() -> None:
    mask = round_rod(80, 14, 0)
    found = made([mask], (120, 120), [1], [1.0])
    assert background_intensity(np.where(mask, 50, 220).astype(np.uint8), found) == 255
    assert background_intensity(np.where(mask, 220, 20).astype(np.uint8), found) == 0
    assert background_intensity(np.full((120, 120), 10, np.uint8), Instances.empty((120, 120))) == 0


def test_shared_pixels_of_three_masks() -> None:
    masks = [np.zeros((20, 30), bool) for _ in range(3)]
    masks[0][5:10, 0:20] = True
    masks[1][0:20, 10:15] = True
    masks[2][6:8, 12:30] = True
    stack = np.stack(masks).sum(axis=0)
    total, each = shared_pixels(made(masks, (20, 30), [1, 1, 1], [1.0] * 3))
    assert total == (stack > 1).sum()
    assert each == [int((mask & (stack > 1)).sum()) for mask in masks]


def test_empty_masks_are_passed_over() -> None:
    nothing = Patch(3, 3, torch.zeros(4, 4))
    image = np.zeros((20, 20), np.uint8)
    assert measure_chromosome(image, nothing) is None
    assert upright_crop(image, nothing, 0.0, 255).shape == (1, 1)
