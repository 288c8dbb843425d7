"""The width of chromosomes, of masks and estimated from images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kemr_lightning.data.chromosome_width import estimate_width, mask_width
from kemr_lightning.data.synthetic.dataset import SyntheticDataset
from kemr_lightning.data.synthetic.scene import MetaphaseSettings


@pytest.mark.parametrize("width", [5, 9, 13, 21])
def test_a_rod_is_as_wide_as_it_was_drawn(width: int) -> None:
    mask = np.zeros((120, 200), dtype=bool)
    mask[40 : 40 + width, 10:190] = True
    assert mask_width(mask) == pytest.approx(width, abs=1.5)


def test_an_empty_mask_has_no_width() -> None:
    assert mask_width(np.zeros((5, 6), dtype=bool)) is None


@pytest.mark.parametrize("look", ["gband", "fluorescence"])
@pytest.mark.parametrize("scale", [0.6, 1.0, 2.2])
def test_the_estimate_follows_the_width_of_the_masks(look: str, scale: float) -> None:
    data = SyntheticDataset(3, MetaphaseSettings((768, 576), look=look, width=14))
    for index in range(3):
        sample = data[index]
        assert sample.instances is not None
        truth = np.median([mask_width(patch.values.numpy()) or 0 for patch in sample.instances.patches or []])
        image = np.asarray(cv2.resize(sample.image.numpy(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        estimate = estimate_width(image)
        assert estimate is not None
        assert 0.7 < estimate / (truth * scale) < 1.35


def test_round_regions_do_not_count() -> None:
    image = np.full((400, 500), 235, dtype=np.uint8)
    for top in range(20, 380, 40):
        image[top : top + 10, 30:130] = 110
    plain = estimate_width(image)
    cv2.circle(image, (330, 200), 120, 110, -1)
    assert plain == pytest.approx(10, abs=2.5)
    assert estimate_width(image) == pytest.approx(plain, abs=2.5)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_image_has_no_estimate(level: int) -> None:
    assert estimate_width(np.full((80, 90), level, dtype=np.uint8)) is None
