"""Interpolation between pixels (or grey levels) and the nodes of a coarse grid, for Gaussian kernels.

A Gaussian of width ``sigma`` on positions ``a, b`` is written ``sum_kl v(a/h - k) m(k - l) v(b/h - l)`` with nodes at
distance ``h = pitch * sigma``, a window ``v`` over four or six nodes and blur taps ``m`` between nodes. The window is
Kaiser-Bessel's, whose spectrum falls fastest outside the grid's band (the choice of non-uniform FFTs; a cubic B-spline
is three times less accurate at the same pitch); the taps are the least-squares fit of the product to the Gaussian, so
they also undo the window's own blur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEAST_SIGMA = 0.15
"""Minimum sigma used. Below it a kernel joins no two pixels or grey levels (at distance 1 it is 2e-10), and only the
grid would grow."""

_SHAPES = {
    4: ((0.6, 0.7, 0.8, 0.9, 1.0), (9.5, 9.0, 8.5, 7.5, 7.0)),
    6: ((0.6, 0.65, 0.7, 0.75, 0.8), (13.0, 12.5, 11.5, 12.0, 13.0)),
}
"""Pitches, and the Kaiser-Bessel shape with the smallest kernel error at each, found by search in steps of 0.5."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """How fine a grid is.

    Attributes:
        nodes: Nodes of the window, 4 or 6.
        pitch: Distance between nodes in units of sigma.
    """

    nodes: int
    pitch: float


LAYOUTS = tuple(Layout(4, pitch) for pitch in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)) + tuple(
    Layout(6, pitch) for pitch in (0.8, 0.75, 0.7, 0.65, 0.6)
)
"""From cheap to accurate."""


class Nodes(NamedTuple):
    """Where positions 0, 1, 2 ... lie among the nodes.

    Attributes:
        first: ``(n,)`` int64, the first of the nodes that each position touches.
        weights: ``(n * w,)`` float32, its weights on these nodes; w is the number of nodes, or of a vector's lanes.
    """

    first: NDArray[np.int64]
    weights: Float32


def kaiser_bessel(distance: NDArray[np.float64], count: int, shape: float) -> NDArray[np.float64]:
    """A Kaiser-Bessel window ``count`` nodes wide, at distances from its centre (in nodes); 0 if ``>= count / 2``."""
    inside = np.clip(1 - (2 * distance / count) ** 2, 0, None)
    return np.asarray(np.where(inside > 0, np.i0(shape * np.sqrt(inside)) / np.i0(shape), 0.0))


def nodes(count: int, sigma: float, layout: Layout, vectors: bool = False) -> Nodes:
    """Nodes and weights of the positions ``0 .. count - 1``.

    Node k lies at ``(k + 1 - layout.nodes / 2) * pitch * sigma``. With ``vectors`` the weights of a position are padded
    with zeros to a whole vector of 4 or 8.
    """
    position = np.arange(count) / (layout.pitch * sigma)
    first = np.floor(position).astype(np.int64)
    touched = np.arange(layout.nodes) + 1 - layout.nodes // 2
    weights = kaiser_bessel((position - first)[:, None] - touched, layout.nodes, _shape(layout))
    if vectors:
        weights = np.pad(weights, ((0, 0), (0, -layout.nodes % 4)))
    return Nodes(first, weights.astype(np.float32).ravel())


@lru_cache(maxsize=256)
def blur_taps(layout: Layout) -> tuple[Float32, float]:
    """The blur taps of a grid, and the root mean square error of the resulting kernel.

    Returns:
        ``(R + 1,)`` float32 taps at distances 0 .. R, R at least 2, and the error relative to the
        Gaussian's own root mean square.
    """
    sigma = 1 / layout.pitch  # In nodes.
    reach = max(3, int(np.ceil(4.0 * sigma)) - 2)
    parts = 16  # Positions in a node's distance; all positions are multiples of 1 / parts.
    half = parts * int(np.ceil(5 * sigma))
    start, offset = np.arange(parts)[:, None], np.arange(-half, half + 1)[None, :]
    edge = parts * layout.nodes // 2
    window = kaiser_bessel(np.arange(-edge, edge + 1) / parts, layout.nodes, _shape(layout))
    matrix = np.zeros((parts, offset.size, reach + 1))
    for node in range(1 - layout.nodes // 2, layout.nodes // 2 + 1):
        touched = window[np.clip(start - node * parts, -edge, edge) + edge]
        for step in range(-reach, reach + 1):
            there = np.clip(start + offset - (node + step) * parts, -edge, edge) + edge
            matrix[:, :, abs(step)] += touched * window[there]
    target = np.exp(-((offset / parts) ** 2) / (2 * sigma**2)).repeat(parts, axis=0).ravel()
    columns = matrix.reshape(-1, reach + 1)
    squares, product = columns.T @ columns, columns.T @ target
    # Fewer taps are less work: take the fewest that are nearly as good as all.
    fits = []
    for count in range(3, reach + 2):
        taps = np.linalg.solve(squares[:count, :count], product[:count])
        fits.append((taps, np.sqrt(np.mean((columns[:, :count] @ taps - target) ** 2) / np.mean(target**2))))
    taps, error = next(fit for fit in fits if fit[1] <= 1.2 * fits[-1][1])
    return taps.astype(np.float32), float(error)


@lru_cache(maxsize=256)
def layout_for(tolerance: float, w1: float, w2: float = 0.0) -> Layout | None:
    """The cheapest grid that keeps refined probabilities within the tolerance, or None if even the best does not.

    The kernel's error times w1 is an error of the logit. Strong kernels leave pixels that could go either way, and
    there any error is amplified: rapidly once the weights sum to about nine. The factors are set by measurement
    (docs/engines.md).
    """
    allowed = 1.4 * stricter(tolerance) / (max(w1 + w2 / 2, 0.1) * (1 + ((w1 + w2) / 8.5) ** 3.5))
    return next((layout for layout in LAYOUTS if blur_taps(layout)[1] <= allowed), None)


def for_iterations(tolerance: float, iterations: int) -> float:
    """The tolerance to work with for a number of updates: each amplifies the error of pixels that are undecided."""
    return tolerance / min(math.pow(max(iterations / 5, 1.0), 0.75), 8.0)


def most_rough(w1: float, w2: float) -> float:
    """Mean of 1 / D over a crop, D the kernel's row sums, up to which `layout_for` alone keeps the tolerance.

    It is less where weights are strong enough to amplify errors but `layout_for` is not yet strict. Set by measurement.
    """
    return 0.085 if w1 > 4 and w1 + w2 < 11 else 0.11


def for_roughness(tolerance: float, roughness: float) -> float:
    """The tolerance to work with where few pixels are alike.

    The windows' error does not shrink with D, but is divided by it, and a pixel that few others support is easily
    undecided. On pure noise (D about 2.5) the error is some ten times that of a chromosome (D about 15). The factors
    are set by measurement; they are powers of two, so that crops can share a grid.

    Args:
        tolerance: The tolerance to work with for a smooth crop.
        roughness: Mean of 1 / D of the crop, more than `most_rough`.
    """
    return math.ldexp(tolerance, -math.ceil(math.log2(3 * math.pow(roughness / 0.11, 1.2))))


def stricter(tolerance: float) -> float:
    """The tolerance to work with so that the worst pixel keeps it, too: half of it at a tenth of the default."""
    return tolerance * float(min(1.0, (tolerance / 0.01) ** 0.3))


def _shape(layout: Layout) -> float:
    return float(np.interp(layout.pitch, *_SHAPES[layout.nodes]))
