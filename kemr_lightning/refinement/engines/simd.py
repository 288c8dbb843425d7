# ruff: noqa: ARG001 (numba reads the arguments' names and number)
"""Vector operations for the compiled kernels: one pixel's values onto a grid and back.

A pixel touches 4 x 4 (or 6 x 6) columns of a grid and four (six) neighbouring intensity nodes in each, which lie side
by side in memory: sixteen vectors of four (36 of eight, the last two zero). LLVM does not find them in scalar code
(measured: 16 ns a pixel for four vectors, against 16 ns for sixteen here), so both operations are written in its vector
instructions, through numba's documented extension point. They compile for any CPU.

numba's cache of `compiled` does not notice changes here: delete ``__pycache__`` after editing.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_FLOAT = ir.FloatType()
_INDEX = ir.IntType(64)
_LANE = ir.IntType(32)
_FAST = ("fast",)

RING = 8
"""Rows of nodes that ``gather`` finds at a time, a power of two."""


def _data(context: Any, builder: Any, array_type: Any, value: Any) -> Any:
    return context.make_array(array_type)(context, builder, value).data


def _broadcast(builder: Any, data: Any, index: Any, lanes: int) -> Any:
    """One float, in all lanes."""
    undefined = ir.Constant(ir.VectorType(_FLOAT, lanes), ir.Undefined)
    first = builder.insert_element(undefined, builder.load(builder.gep(data, [index])), _LANE(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_LANE, lanes), [0] * lanes))


def _vector(builder: Any, data: Any, index: Any, lanes: int) -> Any:
    """Pointer to floats side by side, aligned as floats are."""
    return builder.bitcast(builder.gep(data, [index]), ir.VectorType(_FLOAT, lanes).as_pointer())


def _make_spread(nodes: int, lanes: int) -> Any:
    """The operation ``spread`` for a window of so many nodes.

    ``spread(grid, base, column, row, along_x, x, along_y, y, along_level, level, values, at)`` adds ``values[at] *
    along_y[y + j] * along_x[x + i] * along_level[level + k]`` to cell ``base + j * row + i * column + k`` of the grid,
    for all nodes i and j and lanes k. Arrays are flat float32, positions int64.
    """

    def spread(
        typing: Any, grid: Any, base: Any, column: Any, row: Any, along_x: Any, x: Any, along_y: Any, y: Any,
        along_level: Any, level: Any, values: Any, at: Any,
    ) -> Any:  # fmt: skip
        place = types.int64
        signature = types.void(
            grid, place, place, place, along_x, place, along_y, place, along_level, place, values, place
        )

        def generate(context: Any, builder: Any, kinds: Any, given: Any) -> Any:
            cells, of_x, of_y, of_level, source = (
                _data(context, builder, kinds.args[i], given[i]) for i in (0, 4, 6, 8, 10)
            )
            value = _broadcast(builder, source, given[11], lanes)
            levels = builder.load(_vector(builder, of_level, given[9], lanes), align=4)
            levels = builder.fmul(levels, value, flags=_FAST)
            weights_x = [_broadcast(builder, of_x, builder.add(given[5], _INDEX(i)), lanes) for i in range(nodes)]
            start = given[1]
            for j in range(nodes):
                weight_y = _broadcast(builder, of_y, builder.add(given[7], _INDEX(j)), lanes)
                weighted = builder.fmul(levels, weight_y, flags=_FAST)
                cell = start
                for weight_x in weights_x:
                    pointer = _vector(builder, cells, cell, lanes)
                    added = builder.fmul(weighted, weight_x, flags=_FAST)
                    builder.store(builder.fadd(builder.load(pointer, align=4), added, flags=_FAST), pointer, align=4)
                    cell = builder.add(cell, given[2])
                start = builder.add(start, given[3])
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(spread)


def _make_gather(nodes: int, lanes: int) -> Any:
    """The operation ``gather`` for a window of so many nodes.

    ``gather(ring, base, place, column, row, along_x, x, along_y, y, along_level, level)`` is the sum of ``cell *
    along_y[y + j] * along_x[x + i] * along_level[level + k]``, the cell being number ``place + i * column + k`` of row
    ``(base + j) % RING`` of a ring of rows of length ``row``. Types as in ``spread``.
    """
    lane_type = ir.VectorType(_FLOAT, lanes)

    def gather(
        typing: Any, ring: Any, base: Any, place: Any, column: Any, row: Any, along_x: Any, x: Any, along_y: Any,
        y: Any, along_level: Any, level: Any,
    ) -> Any:  # fmt: skip
        index = types.int64
        signature = types.float32(ring, index, index, index, index, along_x, index, along_y, index, along_level, index)

        def generate(context: Any, builder: Any, kinds: Any, given: Any) -> Any:
            cells, of_x, of_y, of_level = (_data(context, builder, kinds.args[i], given[i]) for i in (0, 5, 7, 9))
            weights_x = [_broadcast(builder, of_x, builder.add(given[6], _INDEX(i)), lanes) for i in range(nodes)]
            total = ir.Constant(lane_type, [0.0] * lanes)
            for j in range(nodes):
                row_sum = ir.Constant(lane_type, [0.0] * lanes)
                slot = builder.and_(builder.add(given[1], _INDEX(j)), _INDEX(RING - 1))
                cell = builder.add(builder.mul(slot, given[4]), given[2])
                for weight_x in weights_x:
                    loaded = builder.load(_vector(builder, cells, cell, lanes), align=4)
                    row_sum = builder.fadd(row_sum, builder.fmul(loaded, weight_x, flags=_FAST), flags=_FAST)
                    cell = builder.add(cell, given[3])
                weight_y = _broadcast(builder, of_y, builder.add(given[8], _INDEX(j)), lanes)
                total = builder.fadd(total, builder.fmul(row_sum, weight_y, flags=_FAST), flags=_FAST)
            levels = builder.load(_vector(builder, of_level, given[10], lanes), align=4)
            total = builder.fmul(total, levels, flags=_FAST)
            parts = [builder.extract_element(total, _LANE(k)) for k in range(lanes)]
            while len(parts) > 1:
                parts = [builder.fadd(a, b, flags=_FAST) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            return parts[0]

        return signature, generate

    return intrinsic(gather)


# Typed as Any: called from compiled code, they take one argument less than they are defined with.
spread4: Any = _make_spread(4, 4)
spread6: Any = _make_spread(6, 8)
gather4: Any = _make_gather(4, 4)
gather6: Any = _make_gather(6, 8)
