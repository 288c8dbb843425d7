"""Windows and blur taps against Gaussians."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.refinement.engines.windows import (
    LAYOUTS,
    Layout,
    blur_taps,
    for_iterations,
    for_roughness,
    kaiser_bessel,
    layout_for,
    nodes,
    stricter,
)


def test_window_and_taps_make_a_gaussian():
    """The one-dimensional kernel the grid realises, against the Gaussian, at every pair of positions."""
    for count, pitch, worst in ((4, 0.7, 2e-3), (4, 1.0, 2e-2), (6, 0.8, 2e-3), (6, 0.6, 1e-4)):
        layout = Layout(count, pitch)
        placed, taps = nodes(60, 5.0, layout), blur_taps(layout)[0]
        spread = np.zeros((60, placed.first[-1] + count))
        for i in range(60):
            spread[i, placed.first[i] : placed.first[i] + count] = placed.weights[count * i : count * (i + 1)]
        size = spread.shape[1]
        blur = sum(
            tap * (np.eye(size, k=r) + (np.eye(size, k=-r) if r else 0)) for r, tap in enumerate(taps.astype(float))
        )
        position = np.arange(60)
        gauss = np.exp(-((position[:, None] - position) ** 2) / 50)
        assert abs(spread @ blur @ spread.T - gauss).max() < worst


def test_the_window_ends_at_half_its_width():
    assert kaiser_bessel(np.array([-2.0, 0.0, 2.0, 3.0]), 4, 8.0).tolist() == [0.0, 1.0, 0.0, 0.0]
    assert kaiser_bessel(np.array([-3.0, 0.0, 3.0]), 6, 12.0).tolist() == [0.0, 1.0, 0.0]


def test_grids_become_finer_with_the_tolerance_and_the_weights() -> None:
    order = {layout: place for place, layout in enumerate(LAYOUTS)}
    errors = [blur_taps(layout)[1] for layout in LAYOUTS]
    assert errors[0] > 3e-3 > errors[len(LAYOUTS) // 2] > errors[-1]
    places = [order[layout] for w1 in (1.0, 4.0, 8.0) if (layout := layout_for(0.01, w1)) is not None]
    assert places == sorted(places)
    coarse, fine = layout_for(0.05, 3.0), layout_for(1e-3, 3.0)
    assert coarse is not None
    assert fine is not None
    assert order[coarse] < order[fine]
    assert layout_for(1e-6, 16.0) is None


def test_working_tolerances_by_hand() -> None:
    assert for_iterations(0.01, 5) == 0.01
    assert for_iterations(0.01, 80) == pytest.approx(0.01 / 8)
    assert stricter(0.01) == 0.01
    assert stricter(1e-3) == pytest.approx(1e-3 * 10**-0.3)
    # 3 * 1 lies between 2 and 4: two powers of two finer.
    assert for_roughness(0.01, 0.11) == 0.0025


def test_weights_are_padded_to_whole_vectors() -> None:
    plain, padded = nodes(9, 3.0, Layout(6, 0.7)), nodes(9, 3.0, Layout(6, 0.7), vectors=True)
    assert np.array_equal(plain.first, padded.first)
    assert np.array_equal(padded.weights.reshape(9, 8)[:, :6], plain.weights.reshape(9, 6))
    assert not padded.weights.reshape(9, 8)[:, 6:].any()
