"""Mean field on CPU, compiled: a bilateral grid per crop, and updates of what has changed.

The appearance kernel is a product of three Gaussians (x, y, intensity), each written with a window over four or six
nodes of a coarse grid and blur taps between them (`windows`): values are spread onto a three-dimensional grid, the grid
is blurred along each axis and read back. The cost per pixel does not depend on the sigmas, but for the cells.

The mean field is linear between updates, so only the *change* of ``tanh(z / 2)`` since it was last spread goes through
the filter. From the second update on that is the rim of the instance: the grid shrinks to the rim's box.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines.simd import RING, gather4, gather6, spread4, spread6
from kemr_lightning.refinement.engines.windows import (
    LEAST_SIGMA,
    blur_taps,
    for_iterations,
    for_roughness,
    layout_for,
    most_rough,
    nodes,
    stricter,
)

MOST_CELLS = 12_000_000
"""Float32 cells of the grid at a time; a crop that needs more is filtered in bands of rows."""

Function = TypeVar("Function", bound=Callable[..., Any])
Float32 = NDArray[np.float32]


def _kernel(function: Function) -> Function:
    """Compile for this CPU on first use and keep the result on disk; the interpreter's lock is free meanwhile."""
    return cast(Function, numba.njit(fastmath=True, nogil=True, cache=True)(function))


def refine_compiled(crops: Crops, parameters: Tensor, iterations: int, tolerance: float) -> tuple[Tensor, list[int]]:
    """Refine crops on CPU, without gradients.

    Args:
        crops: The crops, on CPU.
        parameters: ``(N, 6)``, columns as in `PARAMETER_NAMES`.
        iterations: Mean-field updates.
        tolerance: Intended largest difference of a probability from the exact result.

    Returns:
        ``(P,)`` float32 refined probabilities, and the crops whose are not filled in: their tolerance is below what the
        windows can give.
    """
    table = parameters.detach().double().clone()
    table[:, :3] = table[:, :3].clamp(min=LEAST_SIGMA)
    # Joined to no other pixel by space: intensity does not matter, and a fine grid of it would only take memory.
    table[table[:, 0] == LEAST_SIGMA, 1] = 255
    chance = crops.prob.detach()
    logit = (chance.clamp(1e-5, 1) / (1 - chance).clamp_(1e-5, 1)).log_()
    if bool((table[:, 5] != 1).any()):
        logit /= table[:, 5].float().repeat_interleave(torch.tensor(crops.areas))
    z0 = logit.numpy()
    sizes = np.array(crops.sizes, dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes.prod(axis=1))[:-1]])
    refined = np.empty_like(z0)
    groups: dict[tuple[float, ...], list[int]] = {}
    for which, row in enumerate(table[:, :5].tolist()):
        groups.setdefault(tuple(row), []).append(which)
    levels = crops.intensity.numpy()
    waiting = [
        (row, for_iterations(tolerance, iterations), most_rough(row[3], row[4]), members)
        for row, members in groups.items()
    ]
    left: list[int] = []
    while waiting:
        row, allowed, limit, members = waiting.pop()
        sigma_alpha, sigma_beta, sigma_gamma, w1, w2 = row
        layout = layout_for(allowed, w1, w2)
        if layout is None:
            left += members
            continue
        longest = int(sizes[members].max())
        in_space, in_level = nodes(longest, sigma_alpha, layout), nodes(256, sigma_beta, layout, vectors=True)
        # What is not spread, or not read back, moves a logit by at most about the tolerance.
        change = 1.5 * stricter(allowed) / (max(w1 + w2, 1.0) * (1 + (w1 / 8) ** 2))
        reach = math.ceil(sigma_alpha * math.sqrt(2 * math.log(max(w1 / (8 * allowed), 8.0))))
        smoothing = np.exp(-(np.arange(2 * math.ceil(2 * sigma_gamma) + 1) ** 2) / (2 * sigma_gamma**2)).astype(
            np.float32
        )
        roughness = np.zeros(len(members))
        _refine_group(
            levels, z0, refined, starts[members], sizes[members], in_space.first, in_space.weights, in_level.first,
            in_level.weights, blur_taps(layout)[0], smoothing, w1, w2, iterations, change, reach,
            math.ceil(4 * sigma_alpha), MOST_CELLS, roughness, limit,
        )  # fmt: skip
        again: dict[float, list[int]] = {}
        for which, rough in zip(members, roughness.tolist(), strict=True):
            if rough > limit:
                again.setdefault(for_roughness(allowed, rough), []).append(which)
        waiting += [(row, finer, math.inf, rough_ones) for finer, rough_ones in again.items()]
    return torch.from_numpy(refined), sorted(left)


@_kernel
def _tanh_half(z: Float32, out: Float32) -> None:
    """``tanh(z / 2)`` by Eigen's rational approximation, a few float32 steps from exact; it vectorises."""
    for i in range(len(out)):
        x = min(max(z[i] * np.float32(0.5), np.float32(-7.9)), np.float32(7.9))
        s = x * x
        p = np.float32(-2.76076847742355e-16) * s + np.float32(2.00018790482477e-13)
        p = p * s + np.float32(-8.60467152213735e-11)
        p = p * s + np.float32(5.12229709037114e-08)
        p = p * s + np.float32(1.48572235717979e-05)
        p = p * s + np.float32(6.37261928875436e-04)
        p = p * s + np.float32(4.89352455891786e-03)
        q = np.float32(1.19825839466702e-06) * s + np.float32(1.18534705686654e-04)
        q = q * s + np.float32(2.26843463243900e-03)
        q = q * s + np.float32(4.89352518554385e-03)
        out[i] = x * p / q


@_kernel
def _blur(source: Float32, target: Float32, taps: Float32, step: int, begin: int, length: int) -> None:
    """``target[i] = sum_r taps[|r|] * source[begin + i + r * step]`` for i in 0 .. length - 1.

    Slices rather than indices with offsets: LLVM cannot vectorise numba's treatment of negative indices.
    """
    out = target[:length]
    centre = source[begin : begin + length]
    a1, b1 = source[begin - step : begin - step + length], source[begin + step : begin + step + length]
    a2, b2 = source[begin - 2 * step : begin - 2 * step + length], source[begin + 2 * step : begin + 2 * step + length]
    t0, t1, t2 = taps[0], taps[1], taps[2]
    if len(taps) == 3:
        for i in range(length):
            out[i] = t0 * centre[i] + t1 * (a1[i] + b1[i]) + t2 * (a2[i] + b2[i])
        return
    a3, b3 = source[begin - 3 * step : begin - 3 * step + length], source[begin + 3 * step : begin + 3 * step + length]
    t3 = taps[3]
    for i in range(length):
        out[i] = t0 * centre[i] + t1 * (a1[i] + b1[i]) + t2 * (a2[i] + b2[i]) + t3 * (a3[i] + b3[i])
    for r in range(4, len(taps)):
        a, b = (
            source[begin - r * step : begin - r * step + length],
            source[begin + r * step : begin + r * step + length],
        )
        tap = taps[r]
        for i in range(length):
            out[i] += tap * (a[i] + b[i])


@_kernel
def _filter(
    levels: NDArray[np.uint8], values: Float32, out: Float32, width: int, lowest: int, highest: int,
    top: int, bottom: int, left: int, right: int, begin: int, end: int, given: NDArray[np.int64],
    wanted: NDArray[np.int64], first: NDArray[np.int64], weights: Float32, level_first: NDArray[np.int64],
    level_weights: Float32, taps: Float32, grid: Float32, scratch: Float32,
) -> None:  # fmt: skip
    """``out += K values`` on rows ``begin .. end - 1`` of a crop, at the columns ``wanted`` in each.

    ``given`` and ``wanted`` are ``(height, 2)``: first and last + 1 column of each row, of the values that are not zero
    and of the results. The grid covers rows ``top .. bottom - 1``, which include the wanted ones, and columns
    ``left .. right - 1``. It has R empty rows above and below and R empty cells after each column of intensity nodes (R
    the longest blur tap), so that blurs run without a test; what they push into those cells is never read.
    """
    padding = len(taps) - 1
    nodes, lanes = len(weights) // len(first), len(level_weights) // len(level_first)
    column = level_first[highest] + nodes - level_first[lowest] + padding
    columns = first[right - 1] + nodes - first[left]
    row = columns * column
    rows = first[bottom - 1] + nodes - first[top]
    grid[: (rows + 2 * padding) * row + padding] = np.float32(0)
    in_level = level_first - level_first[lowest]
    in_row = (first[left:right] - first[left]) * column
    touched = np.zeros(rows, dtype=np.bool_)
    for y in range(top, bottom):
        if given[y, 0] < given[y, 1]:
            touched[first[y] - first[top] : first[y] + nodes - first[top]] = True
            # Views of the row that are indexed from 0: LLVM then knows that no index is negative.
            x0, x1 = given[y, 0], given[y, 1]
            some_values, some_levels = values[y * width + x0 : y * width + x1], levels[y * width + x0 : y * width + x1]
            places = in_row[x0 - left : x1 - left]
            base = padding + (padding + first[y] - first[top]) * row
            for i in range(len(some_values)):
                if some_values[i] != 0:
                    level = np.int64(some_levels[i])
                    place = base + places[i] + in_level[level]
                    if nodes == 4:
                        spread4(
                            grid, place, column, row, weights, 4 * (x0 + i), weights, 4 * y, level_weights, 4 * level,
                            some_values, i,
                        )  # fmt: skip
                    else:
                        spread6(
                            grid, place, column, row, weights, 6 * (x0 + i), weights, 6 * y, level_weights,
                            lanes * level, some_values, i,
                        )  # fmt: skip

    # Which columns of nodes are read in each row of nodes: after the blur along y, and before it.
    after, before = np.zeros((rows, 2), dtype=np.int64), np.zeros((rows, 2), dtype=np.int64)
    after[:, 0], before[:, 0] = columns, columns
    for y in range(begin, end):
        if wanted[y, 0] < wanted[y, 1]:
            low, high = first[wanted[y, 0]] - first[left], first[wanted[y, 1] - 1] + nodes - first[left]
            for r in range(first[y] - first[top], first[y] + nodes - first[top]):
                after[r, 0], after[r, 1] = min(after[r, 0], low), max(after[r, 1], high)
    for r in range(rows):
        for other in range(max(r - padding, 0), min(r + padding + 1, rows)):
            before[r, 0], before[r, 1] = min(before[r, 0], after[other, 0]), max(before[r, 1], after[other, 1])

    spilled = scratch[: row + 2 * padding * column]
    spilled[:] = np.float32(0)
    for r in range(rows):
        if touched[r] and before[r, 0] < before[r, 1]:
            start = padding + (padding + r) * row
            low, high = max(before[r, 0] - padding, 0), min(before[r, 1] + padding, columns)
            length = (high - low) * column
            _blur(grid, spilled[(padding + low) * column :], taps, 1, start + low * column, length)
            low, length = before[r, 0], (before[r, 1] - before[r, 0]) * column
            _blur(spilled, grid[start + low * column :], taps, column, (padding + low) * column, length)
            # The next row's first column reads these cells.
            grid[start + row - padding : start + row] = np.float32(0)

    # Blurred along y only just before they are read, a few rows at a time.
    ring = scratch[row + 2 * padding * column :]
    ready = first[begin] - first[top]
    for y in range(begin, end):
        base = first[y] - first[top]
        while ready < base + nodes:
            low, length = after[ready, 0], (after[ready, 1] - after[ready, 0]) * column
            if length > 0:
                start = padding + (padding + ready) * row + low * column
                _blur(grid, ring[(ready & (RING - 1)) * row + low * column :], taps, row, start, length)
            ready += 1
        x0, x1 = wanted[y, 0], wanted[y, 1]
        if x0 < x1:
            some_out, some_levels = out[y * width + x0 : y * width + x1], levels[y * width + x0 : y * width + x1]
            places = in_row[x0 - left : x1 - left]
            for i in range(len(some_out)):
                level = np.int64(some_levels[i])
                place = places[i] + in_level[level]
                if nodes == 4:
                    some_out[i] += gather4(
                        ring, base, place, column, row, weights, 4 * (x0 + i), weights, 4 * y, level_weights, 4 * level
                    )
                else:
                    some_out[i] += gather6(
                        ring, base, place, column, row, weights, 6 * (x0 + i), weights, 6 * y, level_weights,
                        lanes * level,
                    )  # fmt: skip


@_kernel
def _filter_bands(
    levels: NDArray[np.uint8], values: Float32, out: Float32, height: int, width: int, lowest: int, highest: int,
    given: NDArray[np.int64], wanted: NDArray[np.int64], reach: int, far: int, first: NDArray[np.int64],
    weights: Float32, level_first: NDArray[np.int64], level_weights: Float32, taps: Float32, grid: Float32,
    scratch: Float32,
) -> None:  # fmt: skip
    """``out += K values`` as far as the ``given`` values reach; in bands of rows if the grid is too small for all.

    Results are wanted up to ``reach`` pixels from the values, which fills ``wanted``; ``far`` is where the kernel ends.
    """
    top, bottom, left, right = height, 0, width, 0
    for y in range(height):
        wanted[y, 0], wanted[y, 1] = width, 0
        for other in range(max(y - reach, 0), min(y + reach + 1, height)):
            if given[other, 0] < given[other, 1]:
                wanted[y, 0] = max(min(wanted[y, 0], given[other, 0] - reach), 0)
                wanted[y, 1] = min(max(wanted[y, 1], given[other, 1] + reach), width)
        if wanted[y, 0] < wanted[y, 1]:
            top, bottom = min(top, y), y + 1
            left, right = min(left, wanted[y, 0]), max(right, wanted[y, 1])
    if top >= bottom:
        return
    padding = len(taps) - 1
    nodes = len(weights) // len(first)
    row = (first[right - 1] + nodes - first[left]) * (level_first[highest] + nodes - level_first[lowest] + padding)
    band = bottom - top
    if _cells(first, nodes, band, row, padding) > len(grid):
        while band > 1 and _cells(first, nodes, min(band + 2 * far, height), row, padding) > len(grid):
            band = (band + 1) // 2
    for begin in range(top, bottom, band):
        end = min(begin + band, bottom)
        _filter(
            levels, values, out, width, lowest, highest, max(begin - far, top), min(end + far, bottom),
            left, right, begin, end, given, wanted, first, weights, level_first, level_weights, taps, grid, scratch,
        )  # fmt: skip


@_kernel
def _cells(first: NDArray[np.int64], nodes: int, rows: int, row: int, padding: int) -> int:
    """Cells of a grid over so many rows of pixels, wherever they begin (which may take one node more)."""
    return int((first[rows - 1] + nodes + 1 + 2 * padding) * row + padding)


@_kernel
def _smooth(
    values: Float32, scale: Float32, out: Float32, given: NDArray[np.int64], width: int, taps: Float32,
    padded: Float32, rows: Float32,
) -> None:  # fmt: skip
    """``out += Gy (scale values) Gx`` with Gaussians cut at R, their taps; rows of zeros are skipped. R is even.

    ``padded`` has ``width + 2 R`` floats and ``rows`` 2 R rows more than the crop, all zero where the crop is not.
    """
    far = len(taps) - 1
    height = len(given)
    changed = np.zeros(height + 2 * far, dtype=np.bool_)
    for y in range(height):
        changed[far + y] = given[y, 0] < given[y, 1]
        target = rows[(far + y) * width : (far + y + 1) * width]
        if not changed[far + y]:
            target[:] = np.float32(0)
            continue
        a, b = values[y * width : (y + 1) * width], scale[y * width : (y + 1) * width]
        inner = padded[far : far + width]
        for x in range(width):
            inner[x] = a[x] * b[x]
            target[x] = taps[0] * inner[x]
        # Two distances at a time: half the traffic of one.
        for r in range(1, far + 1, 2):
            a1, b1, t1 = padded[far - r : far - r + width], padded[far + r : far + r + width], taps[r]
            a2, b2, t2 = (
                padded[far - r - 1 : far - r - 1 + width],
                padded[far + r + 1 : far + r + 1 + width],
                taps[r + 1],
            )
            for x in range(width):
                target[x] += t1 * (a1[x] + b1[x]) + t2 * (a2[x] + b2[x])
    for y in range(height):
        target = out[y * width : (y + 1) * width]
        centre = far + y
        if changed[centre]:
            source = rows[centre * width : (centre + 1) * width]
            for x in range(width):
                target[x] += taps[0] * source[x]
        for r in range(1, far + 1, 2):
            if changed[centre - r - 1] or changed[centre - r] or changed[centre + r] or changed[centre + r + 1]:
                c, d, t1 = rows[(centre - r) * width :], rows[(centre + r) * width :], taps[r]
                e, f, t2 = rows[(centre - r - 1) * width :], rows[(centre + r + 1) * width :], taps[r + 1]
                for x in range(width):
                    target[x] += t1 * (c[x] + d[x]) + t2 * (e[x] + f[x])


@_kernel
def _changes(
    z: Float32, t: Float32, norm: Float32, spread_before: Float32, delta: Float32, width: int, change: float,
    updated: NDArray[np.int64], given: NDArray[np.int64],
) -> bool:  # fmt: skip
    """Fill ``delta`` with ``norm * t - spread_before`` where t changed by more than ``change``, with zero elsewhere.

    Smaller changes wait: they are not forgotten, because the comparison is with what was spread, not with the last t.
    t is ``tanh(z / 2)``; only columns ``updated`` of each row are looked at. ``given`` gets the first and last + 1
    changed column of each row. Returns whether there is any.
    """
    least = np.float32(change)
    found = False
    for y in range(len(given)):
        given[y, 0], given[y, 1] = width, 0
        if updated[y, 0] >= updated[y, 1]:
            continue
        begin, end = y * width + updated[y, 0], y * width + updated[y, 1]
        a, b, before, now = t[begin:end], norm[begin:end], spread_before[begin:end], delta[begin:end]
        _tanh_half(z[begin:end], a)
        most = np.float32(0)
        for x in range(len(a)):
            difference = a[x] * b[x] - before[x]
            moved = difference if abs(difference) > least * b[x] else np.float32(0)
            now[x] = moved
            before[x] += moved
            most = max(most, abs(moved))
        if most > 0:
            found = True
            low, high = 0, len(now)
            while now[low] == 0:
                low += 1
            while now[high - 1] == 0:
                high -= 1
            given[y, 0], given[y, 1] = updated[y, 0] + low, updated[y, 0] + high
    return found


@_kernel
def _refine_group(
    all_levels: NDArray[np.uint8], all_z0: Float32, refined: Float32, starts: NDArray[np.int64],
    sizes: NDArray[np.int64], first: NDArray[np.int64], weights: Float32, level_first: NDArray[np.int64],
    level_weights: Float32, taps: Float32, smoothing: Float32, w1: float, w2: float, iterations: int, change: float,
    reach: int, far: int, most_cells: int, roughness: NDArray[np.float64], most_rough: float,
) -> None:  # fmt: skip
    """Mean field on crops that share their parameters.

    Fills ``roughness`` with the mean of 1 / D of each crop (0 without an appearance kernel); a crop with more than
    ``most_rough`` is left as it is, for a finer grid.
    """
    padding, nodes = len(taps) - 1, len(weights) // len(first)
    grid, scratch = np.empty(0, dtype=np.float32), np.empty(0, dtype=np.float32)
    for which in range(len(starts)):
        height, width = sizes[which, 0], sizes[which, 1]
        pixels = height * width
        levels = all_levels[starts[which] : starts[which] + pixels]
        z0 = all_z0[starts[which] : starts[which] + pixels]
        lowest, highest = int(levels.min()), int(levels.max())
        column = level_first[highest] + nodes - level_first[lowest] + padding
        row = (first[width - 1] + nodes) * column
        fewest = _cells(first, nodes, min(1 + 2 * far, height), row, padding)
        cells = min(_cells(first, nodes, height, row, padding), max(fewest, most_cells))
        if w1 > 0 and cells > len(grid):
            grid = np.empty(cells, dtype=np.float32)
        rows_needed = (RING + 1) * row + 2 * padding * column
        if rows_needed > len(scratch):
            scratch = np.empty(rows_needed, dtype=np.float32)
        given, wanted = np.zeros((height, 2), dtype=np.int64), np.zeros((height, 2), dtype=np.int64)
        updated = np.zeros((height, 2), dtype=np.int64)
        updated[:, 1] = width
        appearance, norm = np.zeros(pixels, dtype=np.float32), np.ones(pixels, dtype=np.float32)
        given[:, 1] = width
        if w1 > 0 and iterations > 0:
            _filter_bands(
                levels, norm, appearance, height, width, lowest, highest, given, wanted, reach, far, first, weights,
                level_first, level_weights, taps, grid, scratch,
            )  # fmt: skip
            for i in range(pixels):
                # The self term makes D at least 1; the windows' error must not take it to zero.
                norm[i] = 1 / math.sqrt(max(appearance[i], np.float32(0.5)))
                roughness[which] += norm[i] * norm[i] / pixels
            if roughness[which] > most_rough:
                continue
            appearance[:] = np.float32(0)
        smooth, smooth_norm = np.zeros(pixels, dtype=np.float32), np.ones(pixels, dtype=np.float32)
        smoothed = w2 > 0 and iterations > 0
        if smoothed:
            beyond = 2 * (len(smoothing) - 1)
            padded = np.zeros(width + beyond, dtype=np.float32)
            rows = np.zeros((height + beyond) * width, dtype=np.float32)
            ratio = np.ones(pixels, dtype=np.float32)
            _smooth(ratio, smooth_norm, smooth, given, width, smoothing, padded, rows)
            for i in range(pixels):
                smooth_norm[i] = 1 / math.sqrt(smooth[i])
                # Changes come multiplied by the other kernel's norm.
                ratio[i] = smooth_norm[i] / norm[i]
            smooth[:] = np.float32(0)
        z, t, delta = z0.copy(), np.empty(pixels, dtype=np.float32), np.empty(pixels, dtype=np.float32)
        spread_before = np.zeros(pixels, dtype=np.float32)
        for _ in range(iterations):
            if not _changes(z, t, norm, spread_before, delta, width, change, updated, given):
                break
            if w1 > 0:
                _filter_bands(
                    levels, delta, appearance, height, width, lowest, highest, given, wanted, reach, far, first,
                    weights, level_first, level_weights, taps, grid, scratch,
                )  # fmt: skip
            if smoothed:
                _smooth(delta, ratio, smooth, given, width, smoothing, padded, rows)
                updated[:, 0], updated[:, 1] = 0, width
            else:
                updated[:] = wanted
            a, b = np.float32(w1), np.float32(w2)
            for y in range(height):
                if updated[y, 0] < updated[y, 1]:
                    begin, end = y * width + updated[y, 0], y * width + updated[y, 1]
                    new, old, c, d = z[begin:end], z0[begin:end], norm[begin:end], appearance[begin:end]
                    e, f = smooth_norm[begin:end], smooth[begin:end]
                    for i in range(len(new)):
                        new[i] = old[i] + a * c[i] * d[i] + b * e[i] * f[i]
        _tanh_half(z, t)
        target = refined[starts[which] : starts[which] + pixels]
        for i in range(pixels):
            target[i] = np.float32(0.5) + np.float32(0.5) * t[i]
