"""Compiled filter on a bilateral grid: values of pixels spread onto it, blurred along each axis, read back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from kemr_lightning.refinement.engines.simd import RING, gather4, gather6, spread4, spread6

Function = TypeVar("Function", bound=Callable[..., Any])
Float32 = NDArray[np.float32]


def kernel(function: Function) -> Function:
    """Compile for this CPU on first use and keep the result on disk; the interpreter's lock is free meanwhile.

    numba looks at the file of the compiled function alone: who edits what a kernel calls in another file touches the
    kernel's file too, or removes ``__pycache__``.
    """
    return cast(Function, numba.njit(fastmath=True, nogil=True, cache=True)(function))


@kernel
def blur(source: Float32, target: Float32, taps: Float32, step: int, begin: int, length: int) -> None:
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


@kernel
def filter_window(
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
            blur(grid, spilled[(padding + low) * column :], taps, 1, start + low * column, length)
            low, length = before[r, 0], (before[r, 1] - before[r, 0]) * column
            blur(spilled, grid[start + low * column :], taps, column, (padding + low) * column, length)
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
                blur(grid, ring[(ready & (RING - 1)) * row + low * column :], taps, row, start, length)
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


@kernel
def filter_in_bands(
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
    if cells(first, nodes, band, row, padding) > len(grid):
        while band > 1 and cells(first, nodes, min(band + 2 * far, height), row, padding) > len(grid):
            band = (band + 1) // 2
    for begin in range(top, bottom, band):
        end = min(begin + band, bottom)
        filter_window(
            levels, values, out, width, lowest, highest, max(begin - far, top), min(end + far, bottom),
            left, right, begin, end, given, wanted, first, weights, level_first, level_weights, taps, grid, scratch,
        )  # fmt: skip


@kernel
def cells(first: NDArray[np.int64], nodes: int, rows: int, row: int, padding: int) -> int:
    """Cells of a grid over so many rows of pixels, wherever they begin (which may take one node more)."""
    return int((first[rows - 1] + nodes + 1 + 2 * padding) * row + padding)
