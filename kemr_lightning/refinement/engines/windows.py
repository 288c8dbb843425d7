"""Interpolation between pixels (or grey levels) and the nodes of a coarse grid, for Gaussian kernels.

A Gaussian of width ``sigma`` on positions ``a, b`` is written ``sum_kl v(a/h - k) m(k - l) v(b/h - l)`` with nodes at
distance ``h = pitch * sigma``, a window ``v`` over four nodes and blur taps ``m`` between nodes. The window is
Kaiser-Bessel's, whose spectrum falls fastest outside the grid's band (the choice of non-uniform FFTs; a cubic B-spline
is three times less accurate at the same pitch); the taps are the least-squares fit of the product to the Gaussian, so
they also undo the window's own blur.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

WINDOW_NODES = 4
"""Nodes a position touches; the compiled kernels are written for it."""

FINEST_PITCH, COARSEST_PITCH = 0.5, 1.0
"""Range of pitches the windows below are good for, in units of sigma."""

_PITCHES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SHAPES = (10.0, 9.5, 9.0, 8.5, 7.5, 7.0)
"""Kaiser-Bessel shape with the least kernel error at each pitch, found by search in steps of 0.5."""

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Nodes:
    """Where positions 0, 1, 2 ... lie among the nodes.

    Attributes:
        first: ``(n,)`` int64, the first of the four nodes each position touches.
        weights: ``(n * 4,)`` float32, its weights on them.
    """

    first: NDArray[np.int64]
    weights: Float32


def kaiser_bessel(distance: NDArray[np.float64], shape: float) -> NDArray[np.float64]:
    """The window at ``distance`` (in nodes) from its centre; zero from two nodes on."""
    inside = np.clip(1 - (2 * distance / WINDOW_NODES) ** 2, 0, None)
    return np.asarray(np.where(inside > 0, np.i0(shape * np.sqrt(inside)) / np.i0(shape), 0.0))


def nodes(count: int, sigma: float, pitch: float) -> Nodes:
    """Nodes and weights of the positions ``0 .. count - 1``; node k lies at ``(k - 1) * pitch * sigma``."""
    position = np.arange(count) / (pitch * sigma)
    first = np.floor(position).astype(np.int64)
    distance = (position - first)[:, None] - (np.arange(WINDOW_NODES) - 1)
    return Nodes(first, kaiser_bessel(distance, _shape(pitch)).astype(np.float32).ravel())


@lru_cache(maxsize=256)
def blur_taps(pitch: float) -> tuple[Float32, float]:
    """Blur taps for a pitch, and the root mean square error of the kernel they give.

    Returns:
        ``(R + 1,)`` float32 taps at distances 0 .. R, R at least 2, and the error relative to the
        Gaussian's own root mean square.
    """
    sigma = 1 / pitch  # In nodes.
    reach = max(3, int(np.ceil(4.0 * sigma)) - 2)
    parts = 16  # Positions in a node's distance; all positions are multiples of 1 / parts.
    half = parts * int(np.ceil(5 * sigma))
    start, offset = np.arange(parts)[:, None], np.arange(-half, half + 1)[None, :]
    window = kaiser_bessel(np.arange(-2 * parts, 2 * parts + 1) / parts, _shape(pitch))
    matrix = np.zeros((parts, offset.size, reach + 1))
    for node in range(-1, 3):
        touched = window[np.clip(start - node * parts, -2 * parts, 2 * parts) + 2 * parts]
        for step in range(-reach, reach + 1):
            there = np.clip(start + offset - (node + step) * parts, -2 * parts, 2 * parts) + 2 * parts
            matrix[:, :, abs(step)] += touched * window[there]
    target = np.exp(-((offset / parts) ** 2) / (2 * sigma**2)).repeat(parts, axis=0).ravel()
    columns = matrix.reshape(-1, reach + 1)
    squares, product = columns.T @ columns, columns.T @ target
    # Fewer taps are less work: the fewest that are nearly as good as all.
    fits = []
    for count in range(3, reach + 2):
        taps = np.linalg.solve(squares[:count, :count], product[:count])
        fits.append((taps, np.sqrt(np.mean((columns[:, :count] @ taps - target) ** 2) / np.mean(target**2))))
    taps, error = next(fit for fit in fits if fit[1] <= 1.2 * fits[-1][1])
    return taps.astype(np.float32), float(error)


@lru_cache(maxsize=256)
def pitch_for(tolerance: float, w1: float) -> float | None:
    """The coarsest pitch that keeps refined probabilities within the tolerance, or None if the finest does not.

    The kernel's error times w1 is an error of the logit; undecided pixels, which large w1 makes many, amplify it again.
    The factor is set by measurement (docs/engines.md).
    """
    allowed = 1.4 * tolerance / (max(w1, 0.1) * (1 + 1.9 * (w1 / 16) ** 2))
    for pitch in np.arange(COARSEST_PITCH, FINEST_PITCH - 1e-9, -0.05).round(2).tolist():
        if blur_taps(pitch)[1] <= allowed:
            return float(pitch)
    return None


def _shape(pitch: float) -> float:
    return float(np.interp(pitch, _PITCHES, _SHAPES))
