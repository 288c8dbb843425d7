"""Nuclei, precipitate and dirt on a slide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kemr_lightning.data.synthetic.clutter import Slide, cloud, half_cloud, softened

SIZE = (240, 320)


def slide(seed: int = 0) -> Slide:
    return Slide(SIZE, 12.0, True, np.random.default_rng(seed))


def test_a_nucleus_is_a_large_textured_disc() -> None:
    made = slide()
    made.nucleus(160, 120, 50, 0.7, 0.05)
    inside = made.canvas > 0.2
    assert 0.75 < inside.sum() / (np.pi * 50**2) < 1.35
    rows, columns = np.nonzero(inside)
    assert abs(columns.mean() - 160) < 6
    assert abs(rows.mean() - 120) < 6
    middle = made.canvas[110:130, 150:170]
    assert 0.35 < middle.mean() < 1.1
    assert middle.std() > 0.01
    assert not made.free(200, 120, 20)
    assert made.free(160, 0, 20)


BODIES: list[Callable[[Slide, float, float], None]] = [
    lambda made, x, y: made.nucleus(x, y, 40, 0.7),
    lambda made, x, y: made.cluster(x, y, 20, 0.7),
    lambda made, x, y: made.cytoplasm(x, y, 60, 0.1),
    lambda made, x, y: made.flecks(x, y, 5, 20, 1.0),
    lambda made, x, y: made.shard(x, y, 40, 1.0),
    lambda made, x, y: made.droplet(x, y, 6, 0.4),
    lambda made, x, y: made.haze(x, y, 12, 0.1),
]


@pytest.mark.parametrize("body", BODIES)
def test_everything_stays_near_its_place_and_may_be_cut_or_lie_outside(
    body: Callable[[Slide, float, float], None],
) -> None:
    made = slide()
    body(made, 160, 120)
    assert np.abs(made.canvas).max() > 0.02
    assert np.isfinite(made.canvas).all()
    rows, columns = np.nonzero(np.abs(made.canvas) > 0.02)
    assert np.abs(columns - 160).max() < 125
    assert np.abs(rows - 120).max() < 125
    cut = slide()
    body(cut, 0, 0)
    assert np.isfinite(cut.canvas).all()
    outside = slide()
    body(outside, -900, 5000)
    assert not outside.canvas.any()


@pytest.mark.parametrize("scale", [1.0, 6.0, 40.0, 1000.0])
def test_clouds_vary_over_their_scale(scale: float) -> None:
    field = cloud(SIZE, scale, np.random.default_rng(1))
    assert field.shape == SIZE
    assert field.dtype == np.float32
    if scale < 100:
        assert abs(field.mean()) < 0.5
        assert 0.6 < field.std() < 1.3
    steps = np.abs(np.diff(field, axis=1)).mean()
    assert steps < max(3 / scale, 0.02)


def test_blur_keeps_the_sum_inside() -> None:
    values = np.zeros((41, 41), np.float32)
    values[20, 20] = 1
    blurred = softened(values, 3)
    assert blurred.sum() == pytest.approx(1, abs=1e-3)
    assert blurred[20, 20] == pytest.approx(1 / (2 * np.pi * 9), rel=0.03)


def test_half_clouds_cover_images_of_odd_sizes() -> None:
    field = half_cloud((101, 64), 8.0, np.random.default_rng(2))
    assert field.shape == (51, 32)
    np.testing.assert_array_equal(field, cloud((51, 32), 4.0, np.random.default_rng(2)))
