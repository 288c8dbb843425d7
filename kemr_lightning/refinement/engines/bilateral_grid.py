"""The compiled filter: values of pixels are spread onto a bilateral grid, blurred along each axis and read back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from kemr_lightning.refinement.engines.simd import RING, gather4, gather6, spread4, spread6
from kemr_lightning.refinement.engines.windows import Nodes

Function = TypeVar("Function", bound=Callable[..., Any])
Float32 = NDArray[np.float32]


def kernel(function: Function) -> Function:
    """Compile for this CPU on first use, keep the result on disk, and release the interpreter's lock while it runs.

    numba's cache only notices changes to the file of the compiled function itself. After editing what a kernel calls in
    another file, touch the kernel's file too, or remove ``__pycache__``.
    """
    return cast(Function, numba.njit(fastmath=True, nogil=True, cache=True)(function))


class Pixels(NamedTuple):
    """The pixels of a crop.

    Attributes:
        levels: ``(height * width,)`` uint8 intensities, row by row.
        height: Rows.
        width: Columns.
        lowest: Lowest of the levels.
        highest: Highest of the levels.
    """

    levels: NDArray[np.uint8]
    height: int
    width: int
    lowest: int
    highest: int


class Interpolation(NamedTuple):
    """How a kernel is written on a grid.

    Attributes:
        space: Nodes of the pixels along x and y.
        level: Nodes of the 256 intensities; their weights are padded to whole vectors.
        taps: ``(R + 1,)`` blur taps at distances 0 .. R, for all three axes.
    """

    space: Nodes
    level: Nodes
    taps: Float32


class Workspace(NamedTuple):
    """Memory that is used again for each filter.

    Attributes:
        grid: At least `cells` floats for a row of pixels and all rows that the kernel reaches from it; the more, the
            larger the bands.
        scratch: At least `scratch_cells` floats.
    """

    grid: Float32
    scratch: Float32


class Spans(NamedTuple):
    """Which columns of each row matter: ``(height, 2)`` int64 arrays of the first and last + 1 column.

    Attributes:
        given: Columns of the values that are not zero.
        wanted: Columns of the results.
    """

    given: NDArray[np.int64]
    wanted: NDArray[np.int64]


class Box(NamedTuple):
    """A part of a crop, in pixels; ends are exclusive.

    Attributes:
        top: First row that the grid covers.
        bottom: End of these rows.
        left: First column that the grid covers.
        right: End of these columns.
        begin: First row whose results are wanted.
        end: End of these rows, which lie within ``top`` and ``bottom``.
    """

    top: int
    bottom: int
    left: int
    right: int
    begin: int
    end: int


class Strides(NamedTuple):
    """Cells from a node to the next one along each axis of space; intensity nodes lie side by side.

    Attributes:
        column: Cells of one column: its intensity nodes and R empty cells, R the longest blur tap.
        row: Cells of one row of columns.
    """

    column: int
    row: int


@kernel
def window_nodes(interpolation: Interpolation) -> int:
    """Nodes that a position touches along an axis: 4 or 6."""
    return len(interpolation.space.weights) // len(interpolation.space.first)


@kernel
def strides_of(interpolation: Interpolation, pixels: Pixels, left: int, right: int) -> Strides:
    """The strides of a grid over columns ``left .. right - 1`` of a crop."""
    first, in_level, nodes = interpolation.space.first, interpolation.level.first, window_nodes(interpolation)
    column = in_level[pixels.highest] + nodes - in_level[pixels.lowest] + len(interpolation.taps) - 1
    return Strides(column, (first[right - 1] + nodes - first[left]) * column)


@kernel
def cells(interpolation: Interpolation, rows: int, row: int) -> int:
    """Cells of a grid over N rows of pixels, wherever they begin (which may take one node more).

    Args:
        interpolation: The kernel's.
        rows: Rows of pixels.
        row: Cells of a row of columns, see `Strides`.
    """
    padding = len(interpolation.taps) - 1
    return int((interpolation.space.first[rows - 1] + window_nodes(interpolation) + 1 + 2 * padding) * row + padding)


@kernel
def scratch_cells(interpolation: Interpolation, strides: Strides) -> int:
    """Floats of `Workspace.scratch` that a grid needs: one row with room on both sides, and the ring of rows."""
    return (RING + 1) * strides.row + 2 * (len(interpolation.taps) - 1) * strides.column


@kernel
def blur(source: Float32, target: Float32, taps: Float32, step: int, begin: int, length: int) -> None:
    """``target[i] = sum_r taps[|r|] * source[begin + i + r * step]`` for i in 0 .. length - 1.

    Slices rather than indices with offsets: LLVM cannot vectorise numba's treatment of negative indices.
    """
    out = target[:length]
    centre = source[begin : begin + length]
    back1, ahead1 = source[begin - step : begin - step + length], source[begin + step : begin + step + length]
    two = 2 * step
    back2, ahead2 = source[begin - two : begin - two + length], source[begin + two : begin + two + length]
    tap0, tap1, tap2 = taps[0], taps[1], taps[2]
    if len(taps) == 3:
        for i in range(length):
            out[i] = tap0 * centre[i] + tap1 * (back1[i] + ahead1[i]) + tap2 * (back2[i] + ahead2[i])
        return
    three = 3 * step
    back3, ahead3 = source[begin - three : begin - three + length], source[begin + three : begin + three + length]
    tap3 = taps[3]
    for i in range(length):
        out[i] = (
            tap0 * centre[i]
            + tap1 * (back1[i] + ahead1[i])
            + tap2 * (back2[i] + ahead2[i])
            + tap3 * (back3[i] + ahead3[i])
        )
    for r in range(4, len(taps)):
        back, ahead = (
            source[begin - r * step : begin - r * step + length],
            source[begin + r * step : begin + r * step + length],
        )
        tap = taps[r]
        for i in range(length):
            out[i] += tap * (back[i] + ahead[i])


@kernel
def filter_window(
    pixels: Pixels, interpolation: Interpolation, workspace: Workspace, values: Float32, out: Float32, spans: Spans,
    box: Box,
) -> None:  # fmt: skip
    """``out += K values`` on rows ``box.begin .. box.end - 1`` of a crop, at the wanted columns of each.

    The grid has R empty rows above and below and R empty cells after each column of intensity nodes (R the longest
    blur tap), so that blurs need no test for its border; what they push into those cells is never read.

    Args:
        pixels: The crop.
        interpolation: The kernel's.
        workspace: Memory; overwritten.
        values: ``(height * width,)``.
        out: ``(height * width,)``; added to.
        spans: Which values are not zero, and which results are wanted.
        box: What the grid covers, and the rows wanted.
    """
    first, padding = interpolation.space.first, len(interpolation.taps) - 1
    nodes = window_nodes(interpolation)
    rows = first[box.bottom - 1] + nodes - first[box.top]
    strides = strides_of(interpolation, pixels, box.left, box.right)
    workspace.grid[: (rows + 2 * padding) * strides.row + padding] = np.float32(0)
    touched = _spread(pixels, interpolation, workspace.grid, values, spans.given, box, strides)
    before, after = _columns_read(interpolation, spans.wanted, box, rows, strides)
    _blur_rows(interpolation, workspace, touched, before, strides)
    _gather(pixels, interpolation, workspace, out, spans.wanted, box, strides, after)


@kernel
def _spread(
    pixels: Pixels, interpolation: Interpolation, grid: Float32, values: Float32, given: NDArray[np.int64], box: Box,
    strides: Strides,
) -> NDArray[np.bool_]:  # fmt: skip
    """Spread the values of ``box`` onto an empty grid. Returns which rows of nodes received any."""
    first, weights = interpolation.space.first, interpolation.space.weights
    level_first, level_weights = interpolation.level.first, interpolation.level.weights
    nodes, padding = window_nodes(interpolation), len(interpolation.taps) - 1
    levels, width, top, left = pixels.levels, pixels.width, box.top, box.left
    in_level = level_first - level_first[pixels.lowest]
    in_row = (first[left : box.right] - first[left]) * strides.column
    touched = np.zeros(first[box.bottom - 1] + nodes - first[top], dtype=np.bool_)
    for y in range(top, box.bottom):
        x0, x1 = given[y, 0], given[y, 1]
        if x0 < x1:
            touched[first[y] - first[top] : first[y] + nodes - first[top]] = True
            # Views of the row that are indexed from 0: LLVM then knows that no index is negative.
            row_values, row_levels = values[y * width + x0 : y * width + x1], levels[y * width + x0 : y * width + x1]
            places = in_row[x0 - left : x1 - left]
            base = padding + (padding + first[y] - first[top]) * strides.row
            for i in range(len(row_values)):
                value = row_values[i]
                if value != 0:
                    level = np.int64(row_levels[i])
                    place = base + places[i] + in_level[level]
                    if nodes == 4:
                        spread4(grid, strides, place, weights, x0 + i, y, level_weights, level, value)
                    else:
                        spread6(grid, strides, place, weights, x0 + i, y, level_weights, level, value)
    return touched


@kernel
def _columns_read(
    interpolation: Interpolation, wanted: NDArray[np.int64], box: Box, rows: int, strides: Strides
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which columns of nodes are read in each row of nodes, before and after the blur along y.

    Returns:
        Two ``(rows, 2)`` arrays of the first and last + 1 column.
    """
    first, left, top = interpolation.space.first, box.left, box.top
    nodes, padding = window_nodes(interpolation), len(interpolation.taps) - 1
    columns = strides.row // strides.column
    before, after = np.zeros((rows, 2), dtype=np.int64), np.zeros((rows, 2), dtype=np.int64)
    before[:, 0], after[:, 0] = columns, columns
    for y in range(box.begin, box.end):
        if wanted[y, 0] < wanted[y, 1]:
            low, high = first[wanted[y, 0]] - first[left], first[wanted[y, 1] - 1] + nodes - first[left]
            for r in range(first[y] - first[top], first[y] + nodes - first[top]):
                after[r, 0], after[r, 1] = min(after[r, 0], low), max(after[r, 1], high)
    for r in range(rows):
        for other in range(max(r - padding, 0), min(r + padding + 1, rows)):
            before[r, 0], before[r, 1] = min(before[r, 0], after[other, 0]), max(before[r, 1], after[other, 1])
    return before, after


@kernel
def _blur_rows(
    interpolation: Interpolation, workspace: Workspace, touched: NDArray[np.bool_], read: NDArray[np.int64],
    strides: Strides,
) -> None:  # fmt: skip
    """Blur the grid along intensity and along x, in the rows and columns that are ``read`` and not empty."""
    grid, taps, column, row = workspace.grid, interpolation.taps, strides.column, strides.row
    padding, columns = len(taps) - 1, row // column
    # One row, blurred along intensity, with room for the blur along x on both sides.
    blurred = workspace.scratch[: row + 2 * padding * column]
    blurred[:] = np.float32(0)
    for r in range(len(touched)):
        if touched[r] and read[r, 0] < read[r, 1]:
            start = padding + (padding + r) * row
            low, high = max(read[r, 0] - padding, 0), min(read[r, 1] + padding, columns)
            length = (high - low) * column
            blur(grid, blurred[(padding + low) * column :], taps, 1, start + low * column, length)
            low, length = read[r, 0], (read[r, 1] - read[r, 0]) * column
            blur(blurred, grid[start + low * column :], taps, column, (padding + low) * column, length)
            # The next row's first column reads these cells.
            grid[start + row - padding : start + row] = np.float32(0)


@kernel
def _gather(
    pixels: Pixels, interpolation: Interpolation, workspace: Workspace, out: Float32, wanted: NDArray[np.int64],
    box: Box, strides: Strides, read: NDArray[np.int64],
) -> None:  # fmt: skip
    """Add what the pixels read from the grid to ``out``; rows are blurred along y, a few at a time, as they are read.

    ``read`` are the columns of nodes that are read in each row of nodes.
    """
    first, weights, taps = interpolation.space.first, interpolation.space.weights, interpolation.taps
    level_first, level_weights = interpolation.level.first, interpolation.level.weights
    nodes, padding = window_nodes(interpolation), len(taps) - 1
    levels, width, left, column, row = pixels.levels, pixels.width, box.left, strides.column, strides.row
    in_level = level_first - level_first[pixels.lowest]
    in_row = (first[left : box.right] - first[left]) * column
    ring = workspace.scratch[row + 2 * padding * column :]
    ready = first[box.begin] - first[box.top]
    for y in range(box.begin, box.end):
        base = first[y] - first[box.top]
        while ready < base + nodes:
            low, length = read[ready, 0], (read[ready, 1] - read[ready, 0]) * column
            if length > 0:
                start = padding + (padding + ready) * row + low * column
                blur(workspace.grid, ring[(ready & (RING - 1)) * row + low * column :], taps, row, start, length)
            ready += 1
        x0, x1 = wanted[y, 0], wanted[y, 1]
        if x0 < x1:
            row_out, row_levels = out[y * width + x0 : y * width + x1], levels[y * width + x0 : y * width + x1]
            places = in_row[x0 - left : x1 - left]
            for i in range(len(row_out)):
                level = np.int64(row_levels[i])
                place = places[i] + in_level[level]
                if nodes == 4:
                    row_out[i] += gather4(ring, strides, base, place, weights, x0 + i, y, level_weights, level)
                else:
                    row_out[i] += gather6(ring, strides, base, place, weights, x0 + i, y, level_weights, level)


@kernel
def filter_in_bands(
    pixels: Pixels, interpolation: Interpolation, workspace: Workspace, values: Float32, out: Float32, spans: Spans,
    reach: int, far: int,
) -> None:  # fmt: skip
    """``out += K values`` as far as the given values reach; in bands of rows if the grid is too small for all of them.

    Args:
        pixels: The crop.
        interpolation: The kernel's.
        workspace: Memory; overwritten.
        values: ``(height * width,)``.
        out: ``(height * width,)``; added to.
        spans: ``given`` says which values are not zero; ``wanted`` is filled in.
        reach: Pixels from the values up to which results are wanted.
        far: Pixels at which the kernel ends.
    """
    top, bottom, left, right = _want(pixels, spans, reach)
    if top >= bottom:
        return
    row = strides_of(interpolation, pixels, left, right).row
    most = len(workspace.grid)
    band = bottom - top
    if cells(interpolation, band, row) > most:
        while band > 1 and cells(interpolation, min(band + 2 * far, pixels.height), row) > most:
            band = (band + 1) // 2
    for begin in range(top, bottom, band):
        end = min(begin + band, bottom)
        box = Box(max(begin - far, top), min(end + far, bottom), left, right, begin, end)
        filter_window(pixels, interpolation, workspace, values, out, spans, box)


@kernel
def _want(pixels: Pixels, spans: Spans, reach: int) -> tuple[int, int, int, int]:
    """Fill in ``spans.wanted``: what lies within ``reach`` of the given values, row by row.

    Returns:
        Top, bottom, left and right of what is wanted, ends exclusive.
    """
    given, wanted, height, width = spans.given, spans.wanted, pixels.height, pixels.width
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
    return top, bottom, left, right
