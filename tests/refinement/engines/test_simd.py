"""Vector operations against loops in numpy."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from kemr_lightning.refinement.engines.simd import RING, gather4, gather6, spread4, spread6


@numba.njit
def spread_both(grid, strides, base, space, x, y, along_level, level, value, six):
    if six:
        spread6(grid, strides, base, space, x, y, along_level, level, value)
    else:
        spread4(grid, strides, base, space, x, y, along_level, level, value)


@numba.njit
def gather_both(ring, strides, base, place, space, x, y, along_level, level, six):
    if six:
        return gather6(ring, strides, base, place, space, x, y, along_level, level)
    return gather4(ring, strides, base, place, space, x, y, along_level, level)


def given(nodes: int) -> tuple[np.random.Generator, np.ndarray, np.ndarray, tuple[int, int]]:
    """Weights of 5 positions and of 7 levels, and the strides of a grid of rows of 9 columns."""
    rng = np.random.default_rng(nodes)
    lanes = 4 if nodes == 4 else 8
    column = lanes + 3
    space, levels = rng.random((5, nodes)), rng.random((7, lanes))
    levels[:, nodes:] = 0
    return rng, space.astype(np.float32), levels.astype(np.float32), (column, 9 * column)


@pytest.mark.parametrize("nodes", [4, 6])
def test_spread_adds_the_product_of_three_windows(nodes: int) -> None:
    rng, space, levels, strides = given(nodes)
    grid = rng.random(12 * strides[1]).astype(np.float32)
    wanted = grid.astype(float)
    x, y, level, base, value = 3, 1, 5, 17, np.float32(-1.7)
    for j in range(nodes):
        for i in range(nodes):
            for k in range(nodes):
                cell = base + j * strides[1] + i * strides[0] + k
                wanted[cell] += float(value) * space[y, j] * space[x, i] * levels[level, k]
    spread_both(grid, strides, base, space.ravel(), x, y, levels.ravel(), level, value, nodes == 6)
    np.testing.assert_allclose(grid, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nodes", [4, 6])
@pytest.mark.parametrize("base", [0, 5, 15])
def test_gather_reads_a_ring_of_rows(nodes: int, base: int) -> None:
    rng, space, levels, strides = given(nodes)
    ring = rng.random(RING * strides[1]).astype(np.float32)
    x, y, level, place = 2, 4, 6, strides[0] + 1
    rows = ring.reshape(RING, strides[1])
    wanted = sum(
        float(rows[(base + j) % RING, place + i * strides[0] + k]) * space[y, j] * space[x, i] * levels[level, k]
        for j in range(nodes)
        for i in range(nodes)
        for k in range(nodes)
    )
    read = gather_both(ring, strides, base, place, space.ravel(), x, y, levels.ravel(), level, nodes == 6)
    assert read == pytest.approx(wanted, rel=1e-5)
