"""The compiled filter against the kernel matrix."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.refinement.engines.bilateral_grid import (
    Interpolation,
    Pixels,
    Spans,
    Workspace,
    blur,
    cells,
    filter_in_bands,
    scratch_cells,
    strides_of,
)
from kemr_lightning.refinement.engines.windows import Layout, blur_taps, nodes

HEIGHT, WIDTH, SIGMA, SIGMA_INTENSITY = 23, 17, 2.0, 12.0
FAR = 8


def make(layout: Layout) -> tuple[Pixels, Interpolation]:
    levels = np.random.default_rng(0).integers(60, 140, HEIGHT * WIDTH).astype(np.uint8)
    interpolation = Interpolation(
        nodes(max(HEIGHT, WIDTH), SIGMA, layout),
        nodes(256, SIGMA_INTENSITY, layout, vectors=True),
        blur_taps(layout)[0],
    )
    return Pixels(levels, HEIGHT, WIDTH, int(levels.min()), int(levels.max())), interpolation


def by_matrix(pixels: Pixels, values: np.ndarray) -> np.ndarray:
    y, x = (place.ravel().astype(float) for place in np.mgrid[:HEIGHT, :WIDTH])
    level = pixels.levels.astype(float)
    square = sum((a[:, None] - a) ** 2 / sigma**2 for a, sigma in ((y, SIGMA), (x, SIGMA), (level, SIGMA_INTENSITY)))
    return np.exp(-square / 2) @ values


def filtered(layout: Layout, values: np.ndarray, reach: int, rows: int) -> tuple[np.ndarray, Spans]:
    """What the filter adds with memory for this many rows; spans of the values as they are."""
    pixels, interpolation = make(layout)
    strides = strides_of(interpolation, pixels, 0, WIDTH)
    workspace = Workspace(
        np.full(cells(interpolation, rows, strides.row), 7, np.float32),
        np.full(scratch_cells(interpolation, strides), 7, np.float32),
    )
    spans = Spans(np.zeros((HEIGHT, 2), np.int64), np.zeros((HEIGHT, 2), np.int64))
    for row, line in enumerate(values.reshape(HEIGHT, WIDTH)):
        places = np.flatnonzero(line)
        spans.given[row] = (places[0], places[-1] + 1) if len(places) else (WIDTH, 0)
    out = np.zeros(HEIGHT * WIDTH, np.float32)
    filter_in_bands(pixels, interpolation, workspace, values, out, spans, reach, FAR)
    return out, spans


def test_blur_by_numpy() -> None:
    source = np.random.default_rng(1).random(80).astype(np.float32)
    for count in (3, 4, 6):
        taps = np.random.default_rng(count).random(count).astype(np.float32)
        target = np.zeros(30, np.float32)
        blur(source, target, taps, 3, 20, 25)
        wanted = [sum(taps[abs(r)] * source[20 + i + 3 * r] for r in range(1 - count, count)) for i in range(25)]
        np.testing.assert_allclose(target[:25], wanted, rtol=1e-5)
        assert not target[25:].any()


@pytest.mark.parametrize(("layout", "worst"), [(Layout(4, 0.8), 3e-2), (Layout(6, 0.6), 5e-4)], ids=str)
@pytest.mark.parametrize("rows", [HEIGHT, 2 * FAR + 1], ids=["whole", "bands"])
def test_the_filter_is_the_kernel_matrix(layout: Layout, worst: float, rows: int) -> None:
    values = np.random.default_rng(2).normal(size=HEIGHT * WIDTH).astype(np.float32)
    out, spans = filtered(layout, values, 30, rows)
    assert spans.wanted.tolist() == [[0, WIDTH]] * HEIGHT
    np.testing.assert_allclose(out, by_matrix(make(layout)[0], values), atol=worst)


def test_a_few_values_reach_as_far_as_required() -> None:
    values = np.zeros((HEIGHT, WIDTH), np.float32)
    values[9, 4], values[10, 7] = 1.5, -2.0
    out, spans = filtered(Layout(6, 0.6), values.ravel(), 3, HEIGHT)
    assert spans.wanted[6].tolist() == [1, 8]
    assert spans.wanted[9].tolist() == [1, 11]
    assert spans.wanted[13].tolist() == [4, 11]
    wanted = by_matrix(make(Layout(6, 0.6))[0], values.ravel()).reshape(HEIGHT, WIDTH)
    for row, (low, high) in enumerate(spans.wanted.tolist()):
        if low >= high:
            low = high = 0
        line = out.reshape(HEIGHT, WIDTH)[row]
        np.testing.assert_allclose(line[low:high], wanted[row, low:high], atol=5e-4)
        assert not line[:low].any()
        assert not line[high:].any()


def test_nothing_given_adds_nothing() -> None:
    out, spans = filtered(Layout(4, 1.0), np.zeros(HEIGHT * WIDTH, np.float32), 3, HEIGHT)
    assert not out.any()
    assert all(low >= high for low, high in spans.wanted.tolist())
