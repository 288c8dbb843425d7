"""Chromosomes painted on an image: their pixels, stain and masks, in one compiled pass each.

The geometry is that of `shape`: arc length ``s`` along the centre line and signed distance ``t`` from it. Coverage is
read from the distance to the outline instead of sample points, which is some fifty times as fast; masks are the pixels
whose centres lie inside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from kemr_lightning.data.synthetic.shape import Footprint, Shape

Function = TypeVar("Function", bound=Callable[..., Any])
FloatArray = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]

_BLUNTNESS = 2.6
_FAR = np.float32(1e30)


def jitted(function: Function) -> Function:
    """Compile for this CPU on first use and keep the result on disk."""
    return cast(Function, numba.njit(fastmath=True, nogil=True, cache=True)(function))


class Stain(NamedTuple):
    """The stain inside one chromosome.

    Attributes:
        profile: ``(2, P)`` float32, stain along each sister chromatid from the end of the short arm.
        slant: Shift of the bands from one side to the other, pixels.
        bow: Shift of the bands from the axis to the sides, pixels.
        groove: ``(P,)`` float32, depth of the dip between the sister chromatids along them, as a fraction of the stain.
        groove_width: Standard deviation of that dip, as a fraction of the half-width.
        taper: Decrease towards the sides, where the chromosome is thinner, as a fraction of the stain.
    """

    profile: Float32
    slant: float
    bow: float
    groove: Float32
    groove_width: float
    taper: float


class _Line(NamedTuple):
    """A shape on a window: `Shape`'s attributes, with the tangents and curvatures of its centre line."""

    points: FloatArray
    tangent: FloatArray
    curvature: FloatArray
    half_width: FloatArray
    step: float
    cap: float
    notch: tuple[float, float]


class _Window(NamedTuple):
    """Grids ``(h, w)`` on the window at ``(x0, y0)``: ``nearest``, read, and those written; and all of ``ragged``."""

    x0: int
    y0: int

    nearest: NDArray[np.int32]
    ragged: Float32
    canvas: Float32
    coverage: Float32
    s: Float32
    t: Float32


def stroke(
    shape: Shape, stain: Stain, ragged: Float32, canvas: Float32, image_size: tuple[int, int]
) -> Footprint | None:
    """Add a chromosome's stain to a canvas.

    Args:
        shape: Its outline, in pixels of the image.
        stain: What it is filled with.
        ragged: Float32, shift of the bands along the chromosome, pixels, at half the resolution, see `half_cloud`.
        canvas: ``(H, W)`` float32, sum of all stain; changed in place.
        image_size: ``(H, W)``. Parts outside the image are cut off.

    Returns:
        The pixels it covers; None if it lies outside the image.
    """
    height, width = image_size
    reach = float(shape.half_width.max()) + 1.5
    low = np.maximum(np.floor(shape.points.min(axis=0) - reach).astype(int), 0)
    high = np.minimum(np.ceil(shape.points.max(axis=0) + reach).astype(int), (width, height))
    if np.any(high <= low):
        return None
    (x0, y0), (columns, rows) = low.tolist(), (high - low).tolist()
    points = shape.points - low
    line = _Line(points, *shape.frame, shape.half_width, shape.step, float(shape.cap), shape.notch)
    part = np.s_[y0 : y0 + rows, x0 : x0 + columns]
    coverage, s, t = (np.zeros((rows, columns), np.float32) for _ in range(3))
    nearest = np.full((rows, columns), -1, np.int32)
    _find_nearest(points, reach, nearest, np.full((rows, columns), _FAR, np.float32))
    _paint(line, stain, _Window(x0, y0, nearest, ragged, canvas[part], coverage, s, t))
    return Footprint(x0, y0, coverage, s, t)


@jitted
def _find_nearest(points: FloatArray, reach: float, nearest: NDArray[np.int32], best: Float32) -> None:
    """Find the centre line's nearest point to each pixel within reach of it; others keep -1."""
    rows, columns = nearest.shape
    for m in range(len(points)):
        px, py = points[m, 0] - 0.5, points[m, 1] - 0.5
        for i in range(max(int(py - reach), 0), min(int(py + reach) + 2, rows)):
            dy = i - py
            for j in range(max(int(px - reach), 0), min(int(px + reach) + 2, columns)):
                squared = np.float32(dy * dy + (j - px) * (j - px))
                if squared < best[i, j]:
                    best[i, j] = squared
                    nearest[i, j] = m


@jitted
def _at(values: FloatArray, position: float) -> float:
    """Interpolate values linearly; positions beyond the ends take those of the ends."""
    if position <= 0:
        return float(values[0])
    if position >= len(values) - 1:
        return float(values[-1])
    index = int(position)
    return float(values[index] + (position - index) * (values[index + 1] - values[index]))


@jitted
def _end(across: float, notch: float) -> float:
    """Where an end begins at a relative distance from the centre line, as a fraction of the cap."""
    whole = 1 - (1 - min(across, 1.0) ** _BLUNTNESS) ** (1 / _BLUNTNESS)
    if notch == 0:
        return float(whole)
    tip = 1 - (1 - min(abs(2 * across - 1), 1.0) ** _BLUNTNESS) ** (1 / _BLUNTNESS)
    return float((1 - notch) * whole + notch * tip)


@jitted
def _paint(line: _Line, stain: Stain, window: _Window) -> None:
    """Compute coverage and coordinates of each pixel, and add its stain to the canvas."""
    points, tangent, curvature, half_width, step, cap, notch = line
    profile, slant, bow, groove, groove_width, taper = stain
    x0, y0, nearest, ragged, canvas, coverage, s_out, t_out = window
    rows, columns = nearest.shape
    length = step * (len(points) - 1)
    samples = profile.shape[1]
    for i in range(rows):
        for j in range(columns):
            m = nearest[i, j]
            if m < 0:
                continue
            x, y = j + 0.5 - points[m, 0], i + 0.5 - points[m, 1]
            along = x * tangent[m, 0] + y * tangent[m, 1]
            aside = tangent[m, 0] * y - tangent[m, 1] * x
            shrink = max(1 - curvature[m] * aside, 0.2)
            s = m * step + along / shrink
            t = aside - curvature[m] * along * along / (2 * shrink)
            half = _at(half_width, s / step)
            depth = half - abs(t)
            if depth <= -0.5:
                continue
            across = min(abs(t) / half, 1.0)
            if s < 2 * cap:
                depth = min(depth, s - cap * _end(across, notch[0]))
            if length - s < 2 * cap:
                depth = min(depth, length - s - cap * _end(across, notch[1]))
            covered = min(max(depth + 0.5, 0.0), 1.0)
            if covered <= 0:
                continue
            coverage[i, j], s_out[i, j], t_out[i, j] = covered, s, t
            side = t / half
            shifted = s + ragged[(y0 + i) // 2, (x0 + j) // 2] + slant * side / 2 + bow * side * side
            position = min(max(shifted / length, 0.0), 1.0) * (samples - 1)
            mix = min(max(0.5 + 2.5 * side, 0.0), 1.0)
            value = (1 - mix) * _at(profile[0], position) + mix * _at(profile[1], position)
            dip = _at(groove, position) * np.exp(-0.5 * (side / groove_width) ** 2)
            canvas[i, j] += np.float32(covered * value * (1 - dip) * (1 - taper * min(side * side, 1.0)))
