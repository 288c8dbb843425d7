"""Where an image is stained."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.data.stain import stained


def rods(stain: float, background: float) -> tuple[np.ndarray, np.ndarray]:
    """Three rods of 12 pixels' width on an uneven background, and where they are."""
    mask = np.zeros((200, 300), dtype=bool)
    for top in (30, 90, 150):
        mask[top : top + 12, 40:250] = True
    rng = np.random.default_rng(0)
    image = np.where(mask, stain, background) + rng.normal(0, 3, mask.shape) + np.linspace(-6, 6, 300)
    return image.clip(0, 255).round().astype(np.uint8), mask


@pytest.mark.parametrize(("stain", "background"), [(90, 230), (200, 20), (150, 240), (90, 30)])
def test_rods_are_found_in_both_polarities(stain: float, background: float) -> None:
    image, mask = rods(stain, background)
    found = stained(image)
    assert (found & mask).sum() / (found | mask).sum() > 0.85


def test_a_higher_fraction_finds_less() -> None:
    image, _ = rods(90, 230)
    assert stained(image, 1.3).sum() < stained(image, 0.5).sum()


def test_an_image_without_contrast_is_no_fault() -> None:
    assert stained(np.full((40, 50), 128, dtype=np.uint8)).shape == (40, 50)
