from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from kemr_lightning.prediction.medial_axis import medial_axis, resample
from tests.prediction.helpers import round_rod


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 133])
def test_length_width_and_direction_of_rods(degrees: float) -> None:
    mask = round_rod(80, 14, degrees)
    axis = medial_axis(mask, np.zeros(mask.shape, np.uint8))
    assert axis.length == pytest.approx(80, abs=2.5)
    # The round ends take away (1 - pi/4) of a square of one width.
    assert axis.width == pytest.approx(14 - 14 * 14 * (1 - np.pi / 4) / 80, abs=0.7)
    angle = np.rad2deg(np.arctan2(axis.direction[1], axis.direction[0])) % 180
    assert min(abs(angle - degrees % 180), 180 - abs(angle - degrees % 180)) < 1


def test_a_bent_chromosome_is_measured_along_its_bend() -> None:
    # Half a ring of radius 40 and width 10: the centre line is 40 pi long.
    y, x = np.mgrid[:120, :120] + 0.5
    radius = np.hypot(x - 60, y - 70)
    mask = (np.abs(radius - 40) <= 5) & (y <= 70)
    axis = medial_axis(mask, np.zeros(mask.shape, np.uint8))
    assert axis.length == pytest.approx(40 * np.pi, rel=0.03)
    assert axis.width == pytest.approx(10, rel=0.06)


def test_bands_are_found_where_they_are() -> None:
    mask = round_rod(90, 12, 30)
    y, x = np.mgrid[: mask.shape[0], : mask.shape[1]] + 0.5
    angle = np.deg2rad(30)
    along = (x - 60) * np.cos(angle) + (y - 60) * np.sin(angle)
    image = (128 + 100 * np.sin(2 * np.pi * along / 18)).astype(np.uint8)
    image[~mask] = 255
    axis = medial_axis(mask, image)
    position = np.linspace(-axis.length / 2, axis.length / 2, len(axis.profile))
    expected = 128 + 100 * np.sin(2 * np.pi * position / 18)
    # The direction in which the axis runs is not defined.
    matched = max(np.corrcoef(axis.profile, expected)[0, 1], np.corrcoef(axis.profile[::-1], expected)[0, 1])
    assert matched > 0.97


def test_spurs_and_second_parts_do_not_count() -> None:
    mask = round_rod(80, 12, 0)
    mask[52:54, 50:52] = True  # a bump
    mask[10:13, 10:13] = True  # a crumb
    axis = medial_axis(mask, np.zeros(mask.shape, np.uint8))
    assert axis.length == pytest.approx(80, abs=2.5)


@pytest.mark.parametrize(
    "mask", [np.ones((1, 1), bool), np.ones((1, 9), bool), np.ones((2, 2), bool), np.ones((7, 7), bool), np.eye(6) > 0]
)
def test_tiny_masks_have_an_axis(mask: np.ndarray) -> None:
    axis = medial_axis(mask, np.full(mask.shape, 9, np.uint8))
    assert axis.length > 0
    assert np.isfinite(axis.points).all()
    np.testing.assert_allclose(axis.profile, 9)


def test_random_blobs_stay_finite() -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        mask = ndimage.gaussian_filter(rng.normal(size=(50, 60)), 3) > 0.02
        axis = medial_axis(mask, rng.integers(0, 255, mask.shape, dtype=np.uint8))
        assert np.isfinite(axis.length)
        assert np.isfinite(axis.profile).all()


def test_empty_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        medial_axis(np.zeros((4, 4), bool), np.zeros((4, 4), np.uint8))


def test_resampling_keeps_the_mean_and_the_ends() -> None:
    profile = np.arange(90, dtype=float)
    short = resample(profile, 30)
    np.testing.assert_allclose(short, profile.reshape(30, 3).mean(axis=1))
    long = resample(np.array([0.0, 1.0]), 5)
    np.testing.assert_allclose(long, [0, 0.25, 0.5, 0.75, 1])
