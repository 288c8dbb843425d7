# ruff: noqa: ARG001 (numba reads the names and the number of the arguments)
"""Vector operations of the compiled filter: one pixel's value onto a grid, and back.

A pixel touches 4 x 4 (or 6 x 6) columns of a grid, and four (six) neighbouring intensity nodes in each, which lie side
by side in memory: sixteen vectors of four floats (or 36 of eight, the last two of them zero). LLVM does not find these
vectors in scalar code (measured: 16 ns per pixel for four of them, where this code takes 16 ns for sixteen), so both
operations are written in LLVM's vector instructions, through numba's documented extension point. They compile for any
CPU.

numba's cache does not notice changes to this file: delete ``__pycache__`` after editing it.
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
"""Rows of nodes that ``gather`` can read at a time; a power of two."""


def _data(context: Any, builder: Any, array_type: Any, value: Any) -> Any:
    return context.make_array(array_type)(context, builder, value).data


def _broadcast(builder: Any, value: Any, lanes: int) -> Any:
    """A float in all lanes."""
    undefined = ir.Constant(ir.VectorType(_FLOAT, lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, _LANE(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_LANE, lanes), [0] * lanes))


def _broadcast_from(builder: Any, data: Any, index: Any, lanes: int) -> Any:
    """An element of an array in all lanes."""
    return _broadcast(builder, builder.load(builder.gep(data, [index])), lanes)


def _vector(builder: Any, data: Any, index: Any, lanes: int) -> Any:
    """Pointer to floats that lie side by side, aligned as single floats are."""
    return builder.bitcast(builder.gep(data, [index]), ir.VectorType(_FLOAT, lanes).as_pointer())


def _weights_of(builder: Any, data: Any, position: Any, nodes: int, lanes: int) -> list[Any]:
    """A position's weights on its nodes along an axis of space, each of them in all lanes."""
    first = builder.mul(position, _INDEX(nodes))
    return [_broadcast_from(builder, data, builder.add(first, _INDEX(i)), lanes) for i in range(nodes)]


def _make_spread(nodes: int, lanes: int) -> Any:
    """The operation ``spread`` for a window of this many nodes.

    ``spread(grid, strides, base, along_space, x, y, along_level, level, value)`` adds ``value * wy[j] * wx[i] *
    wl[k]`` to cell ``base + j * strides[1] + i * strides[0] + k`` of the grid, for all nodes i and j and lanes k. The
    weights ``wx`` and ``wy`` are those of positions x and y in ``along_space``, ``nodes`` floats each; ``wl`` are
    those of ``level`` in ``along_level``, ``lanes`` floats each. Arrays are flat float32, ``strides`` is a pair (cells
    of a column, cells of a row), all positions are int64.
    """

    def spread(
        typing: Any, grid: Any, strides: Any, base: Any, along_space: Any, x: Any, y: Any, along_level: Any,
        level: Any, value: Any,
    ) -> Any:  # fmt: skip
        index = types.int64
        signature = types.void(grid, strides, index, along_space, index, index, along_level, index, types.float32)

        def generate(context: Any, builder: Any, kinds: Any, given: Any) -> Any:
            cells, in_space, in_level = (_data(context, builder, kinds.args[i], given[i]) for i in (0, 3, 6))
            column, row = builder.extract_value(given[1], 0), builder.extract_value(given[1], 1)
            levels = builder.load(_vector(builder, in_level, builder.mul(given[7], _INDEX(lanes)), lanes), align=4)
            levels = builder.fmul(levels, _broadcast(builder, given[8], lanes), flags=_FAST)
            weights_x = _weights_of(builder, in_space, given[4], nodes, lanes)
            start = given[2]
            for weight_y in _weights_of(builder, in_space, given[5], nodes, lanes):
                weighted = builder.fmul(levels, weight_y, flags=_FAST)
                cell = start
                for weight_x in weights_x:
                    pointer = _vector(builder, cells, cell, lanes)
                    added = builder.fmul(weighted, weight_x, flags=_FAST)
                    builder.store(builder.fadd(builder.load(pointer, align=4), added, flags=_FAST), pointer, align=4)
                    cell = builder.add(cell, column)
                start = builder.add(start, row)
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(spread)


def _make_gather(nodes: int, lanes: int) -> Any:
    """The operation ``gather`` for a window of this many nodes.

    ``gather(ring, strides, base, place, along_space, x, y, along_level, level)`` is the sum of ``cell * wy[j] * wx[i] *
    wl[k]`` over all nodes i and j and lanes k, the cell being number ``place + i * strides[0] + k`` of row ``(base + j)
    % RING`` of a ring of rows of length ``strides[1]``. Weights and types are those of ``spread``.
    """
    lane_type = ir.VectorType(_FLOAT, lanes)

    def gather(
        typing: Any, ring: Any, strides: Any, base: Any, place: Any, along_space: Any, x: Any, y: Any,
        along_level: Any, level: Any,
    ) -> Any:  # fmt: skip
        index = types.int64
        signature = types.float32(ring, strides, index, index, along_space, index, index, along_level, index)

        def generate(context: Any, builder: Any, kinds: Any, given: Any) -> Any:
            cells, in_space, in_level = (_data(context, builder, kinds.args[i], given[i]) for i in (0, 4, 7))
            column, row = builder.extract_value(given[1], 0), builder.extract_value(given[1], 1)
            weights_x = _weights_of(builder, in_space, given[5], nodes, lanes)
            total = ir.Constant(lane_type, [0.0] * lanes)
            for j, weight_y in enumerate(_weights_of(builder, in_space, given[6], nodes, lanes)):
                row_sum = ir.Constant(lane_type, [0.0] * lanes)
                slot = builder.and_(builder.add(given[2], _INDEX(j)), _INDEX(RING - 1))
                cell = builder.add(builder.mul(slot, row), given[3])
                for weight_x in weights_x:
                    loaded = builder.load(_vector(builder, cells, cell, lanes), align=4)
                    row_sum = builder.fadd(row_sum, builder.fmul(loaded, weight_x, flags=_FAST), flags=_FAST)
                    cell = builder.add(cell, column)
                total = builder.fadd(total, builder.fmul(row_sum, weight_y, flags=_FAST), flags=_FAST)
            levels = builder.load(_vector(builder, in_level, builder.mul(given[8], _INDEX(lanes)), lanes), align=4)
            return _sum_of_lanes(builder, builder.fmul(total, levels, flags=_FAST), lanes)

        return signature, generate

    return intrinsic(gather)


def _sum_of_lanes(builder: Any, vector: Any, lanes: int) -> Any:
    """The sum of a vector's lanes, in pairs."""
    parts = [builder.extract_element(vector, _LANE(k)) for k in range(lanes)]
    while len(parts) > 1:
        parts = [builder.fadd(a, b, flags=_FAST) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


# Typed as Any: compiled code calls them with one argument less than they are defined with.
spread4: Any = _make_spread(4, 4)
spread6: Any = _make_spread(6, 8)
gather4: Any = _make_gather(4, 4)
gather6: Any = _make_gather(6, 8)
