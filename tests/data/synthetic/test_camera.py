"""From stain to grey levels of a clinical image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kemr_lightning.data.synthetic.camera import Camera

SIZE = (96, 128)
CLEAN = Camera(
    absorbs=True,
    background=240.0,
    gain=0.5,
    blur=0.0,
    sharpening=0.0,
    sharpening_radius=1.0,
    halo=0.0,
    halo_radius=1.0,
    shading=0.0,
    mottle=0.0,
    mottle_scale=1.0,
    grain=0.0,
    read_noise=0.0,
    shot_noise=0.0,
    gamma=1.0,
    quality=None,
    inverted=False,
)
BRIGHT = replace(CLEAN, absorbs=False, background=10.0, gain=80.0)


def taken(camera: Camera, level: float, seed: int = 0) -> np.ndarray:
    """An image whose right half has that much stain."""
    stain = np.zeros(SIZE, np.float32)
    stain[:, 64:] = level
    return camera.expose(stain, 12.0, np.random.default_rng(seed))


def test_transmittances_multiply() -> None:
    for level in (0.5, 1.0, 2.0):
        image = taken(CLEAN, level)
        assert image[50, 20] == 240
        assert image[50, 100] == pytest.approx(240 * 10 ** (-0.5 * level), abs=1)


def test_emitted_light_adds_and_saturates() -> None:
    assert [taken(BRIGHT, level)[50, 100] for level in (0, 1, 2, 9)] == [10, 90, 170, 255]


def test_light_saved_inverted_or_as_jpeg() -> None:
    image = taken(BRIGHT, 1.0)
    np.testing.assert_array_equal(taken(replace(BRIGHT, inverted=True), 1.0), 255 - image)
    packed = taken(replace(BRIGHT, quality=60), 1.0)
    assert packed.shape == SIZE
    assert 0 < np.abs(packed.astype(int) - image).max() < 40


def test_blur_halo_and_sharpening_act_at_the_edge() -> None:
    image = taken(replace(BRIGHT, blur=3.0), 1.0)
    assert image[50, 64] == pytest.approx(50 + 80 * 0.066, abs=2)
    glowing = taken(replace(BRIGHT, halo=0.3, halo_radius=8.0), 1.0)
    assert glowing[50, 60] > 14
    assert glowing[50, 10] == pytest.approx(10, abs=1)
    sharp = taken(replace(CLEAN, background=200.0, sharpening=1.0, sharpening_radius=2.0), 1.0)
    assert sharp[50, 63] > 215
    assert sharp[50, 20] == 200


def test_noise_has_its_deviation() -> None:
    image = taken(replace(BRIGHT, background=100.0, read_noise=4.0), 0.0)
    assert image.std() == pytest.approx(4.0, rel=0.35)
    light = taken(replace(BRIGHT, background=50.0, shot_noise=0.25), 1.0)
    dim, bright = light[:, :60].std(), light[:, 68:].std()
    assert bright / dim == pytest.approx((130 / 50) ** 0.5, rel=0.15)


def test_uneven_light_ground_and_stain() -> None:
    assert taken(replace(CLEAN, background=200.0, shading=0.05), 0.0).std() > 1
    assert taken(replace(CLEAN, background=200.0, mottle=0.05, mottle_scale=6.0), 0.0).std() > 2
    grained = taken(replace(BRIGHT, grain=0.1), 1.0)
    assert grained[:, :60].std() == 0
    assert grained[:, 68:].std() > 3


def test_the_curve_of_gamma() -> None:
    assert taken(replace(BRIGHT, gamma=0.5), 1.0)[50, 100] == pytest.approx(255 * (90 / 255) ** 0.5, abs=1)
