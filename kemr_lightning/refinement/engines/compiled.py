"""Mean field on CPU, compiled: a bilateral grid per crop, and updates of what has changed.

The appearance kernel is a product of three Gaussians (x, y, intensity), each written with a window over four or six
nodes of a coarse grid and blur taps between them (`windows`): values are spread onto a three-dimensional grid, the grid
is blurred along each axis and read back. The cost per pixel does not depend on the sigmas, but for the cells.

The mean field is linear between updates, so only the *change* of ``tanh(z / 2)`` since it was last spread goes through
the filter. From the second update on that is the rim of the instance: the grid shrinks to the rim's box.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines.bilateral_grid import Float32, cells, filter_in_bands, kernel
from kemr_lightning.refinement.engines.simd import RING
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


@kernel
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


@kernel
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


@kernel
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


@kernel
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
        fewest = cells(first, nodes, min(1 + 2 * far, height), row, padding)
        needed = min(cells(first, nodes, height, row, padding), max(fewest, most_cells))
        if w1 > 0 and needed > len(grid):
            grid = np.empty(needed, dtype=np.float32)
        rows_needed = (RING + 1) * row + 2 * padding * column
        if rows_needed > len(scratch):
            scratch = np.empty(rows_needed, dtype=np.float32)
        given, wanted = np.zeros((height, 2), dtype=np.int64), np.zeros((height, 2), dtype=np.int64)
        updated = np.zeros((height, 2), dtype=np.int64)
        updated[:, 1] = width
        appearance, norm = np.zeros(pixels, dtype=np.float32), np.ones(pixels, dtype=np.float32)
        given[:, 1] = width
        if w1 > 0 and iterations > 0:
            filter_in_bands(
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
                filter_in_bands(
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
