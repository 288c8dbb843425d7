"""Parts of the compiled mean field against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.refinement.engines.mean_field import Smoothing, find_changes, smooth, tanh_half


def test_half_the_tanh_is_near_numpys() -> None:
    z = np.linspace(-30, 30, 20_001).astype(np.float32)
    out = np.empty_like(z)
    tanh_half(z, out)
    np.testing.assert_allclose(out, np.tanh(z.astype(float) / 2), atol=5e-7)


@pytest.mark.parametrize("rows_given", [range(9), [4], []], ids=["all", "one", "none"])
def test_smoothing_is_two_gaussian_matrices(rows_given: range | list[int]) -> None:
    height, width, sigma = 9, 7, 1.3
    taps = np.exp(-(np.arange(2 * 3 + 1) ** 2) / (2 * sigma**2)).astype(np.float32)
    rng = np.random.default_rng(0)
    values, scale = (rng.normal(size=height * width).astype(np.float32) for _ in range(2))
    given = np.zeros((height, 2), np.int64)
    for row in rows_given:
        given[row] = 0, width
    kept = values.reshape(height, width) * (given[:, 1:] > 0)
    far = len(taps) - 1
    smoothing = Smoothing(
        np.ones(height * width, np.float32),
        np.ones(height * width, np.float32),
        scale,
        np.zeros(width + 2 * far, np.float32),
        np.zeros((height + 2 * far) * width, np.float32),
    )
    smooth(values, smoothing, given, width, taps)

    def gaussian(count: int) -> np.ndarray:
        distance = np.abs(np.arange(count)[:, None] - np.arange(count))
        return np.where(distance <= far, np.exp(-(distance**2) / (2 * sigma**2)), 0)

    wanted = 1 + gaussian(height) @ (kept * scale.reshape(height, width)) @ gaussian(width)
    np.testing.assert_allclose(smoothing.total.reshape(height, width), wanted, atol=1e-5)


def test_small_changes_wait_and_large_ones_are_found() -> None:
    """Two rows of four pixels, of which the last column is not looked at; tanh(z / 2) is 0.5 at log 3."""
    z = np.log(3).astype(np.float32) * np.array([0, 1, 0, 1, 0, 0, 0, 0], np.float32)
    norm, before = np.full(8, 0.5, np.float32), np.zeros(8, np.float32)
    before[2] = 0.004  # of tanh: a change of 0.008, which waits
    delta = np.full(8, 9, np.float32)
    updated, given = np.array([[0, 3], [0, 0]]), np.zeros((2, 2), np.int64)
    assert find_changes(z, norm, before, delta, 4, 0.01, updated, given)
    np.testing.assert_allclose(delta[:3], [0, 0.25, 0], atol=1e-6)
    assert given.tolist() == [[1, 2], [4, 0]]
    np.testing.assert_allclose(before[:4], [0, 0.25, 0.004, 0], atol=1e-6)
    assert not find_changes(z, norm, before, delta, 4, 0.01, updated, given)
