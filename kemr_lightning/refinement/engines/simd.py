# ruff: noqa: ARG001 (numba reads the arguments' names and number)
"""Four-wide vector operations for the compiled kernels.

A pixel touches 4 x 4 columns of a grid and four neighbouring intensity nodes in each: sixteen vectors of four. LLVM
does not find them in scalar code (measured: 16 ns per pixel for four vectors, against 16 ns for sixteen here), so both
operations are written in its vector instructions, through numba's documented extension point. They compile for any CPU.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, 4)
_INDEX = ir.IntType(64)
_LANE = ir.IntType(32)
_FAST = ("fast",)
_NODES = 4


def _data(context: Any, builder: Any, array_type: Any, value: Any) -> Any:
    return context.make_array(array_type)(context, builder, value).data


def _scalar(builder: Any, data: Any, index: Any) -> Any:
    """One float, in all four lanes."""
    lone = builder.load(builder.gep(data, [index]))
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, lone, _LANE(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_LANE, 4), [0] * 4))


def _vector(builder: Any, data: Any, index: Any) -> Any:
    """Pointer to four floats, aligned as floats are."""
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _spread(
    typing: Any, grid: Any, base: Any, column: Any, row: Any, along_x: Any, x: Any, along_y: Any, y: Any,
    along_level: Any, level: Any, values: Any, at: Any,
) -> Any:  # fmt: skip
    """Add ``values[at] * along_y[y + j] * along_x[x + i] * along_level[level + k]`` to the grid.

    To cell ``base + j * row + i * column + k``, for i, j and k in 0..3. Arrays are flat float32, positions int64.
    """
    place = types.int64
    signature = types.void(grid, place, place, place, along_x, place, along_y, place, along_level, place, values, place)

    def generate(context: Any, builder: Any, kinds: Any, given: Any) -> Any:
        cells, of_x, of_y, of_level, source = (
            _data(context, builder, kinds.args[i], given[i]) for i in (0, 4, 6, 8, 10)
        )
        levels = builder.load(_vector(builder, of_level, given[9]), align=4)
        levels = builder.fmul(levels, _scalar(builder, source, given[11]), flags=_FAST)
        weights_x = [_scalar(builder, of_x, builder.add(given[5], _INDEX(i))) for i in range(_NODES)]
        start = given[1]
        for j in range(_NODES):
            weight_y = _scalar(builder, of_y, builder.add(given[7], _INDEX(j)))
            weighted = builder.fmul(levels, weight_y, flags=_FAST)
            place = start
            for weight_x in weights_x:
                pointer = _vector(builder, cells, place)
                added = builder.fmul(weighted, weight_x, flags=_FAST)
                builder.store(builder.fadd(builder.load(pointer, align=4), added, flags=_FAST), pointer, align=4)
                place = builder.add(place, given[2])
            start = builder.add(start, given[3])
        return context.get_dummy_value()

    return signature, generate


def _gather(
    typing: Any, grid: Any, row0: Any, row1: Any, row2: Any, row3: Any, column: Any, along_x: Any, x: Any,
    along_y: Any, y: Any, along_level: Any, level: Any,
) -> Any:  # fmt: skip
    """``sum_ijk grid[row_j + i * column + k] * along_y[y + j] * along_x[x + i] * along_level[level + k]``, float32.

    Types as in `spread`; ``row_j`` is the position of the first cell in each of the four rows.
    """
    place = types.int64
    signature = types.float32(
        grid, place, place, place, place, place, along_x, place, along_y, place, along_level, place
    )

    def generate(context: Any, builder: Any, kinds: Any, given: Any) -> Any:
        cells, of_x, of_y, of_level = (_data(context, builder, kinds.args[i], given[i]) for i in (0, 6, 8, 10))
        weights_x = [_scalar(builder, of_x, builder.add(given[7], _INDEX(i))) for i in range(_NODES)]
        total = ir.Constant(_VECTOR, [0.0] * 4)
        for j in range(_NODES):
            row = ir.Constant(_VECTOR, [0.0] * 4)
            place = given[1 + j]
            for weight_x in weights_x:
                loaded = builder.load(_vector(builder, cells, place), align=4)
                row = builder.fadd(row, builder.fmul(loaded, weight_x, flags=_FAST), flags=_FAST)
                place = builder.add(place, given[5])
            weight_y = _scalar(builder, of_y, builder.add(given[9], _INDEX(j)))
            total = builder.fadd(total, builder.fmul(row, weight_y, flags=_FAST), flags=_FAST)
        total = builder.fmul(total, builder.load(_vector(builder, of_level, given[11]), align=4), flags=_FAST)
        lanes = [builder.extract_element(total, _LANE(k)) for k in range(_NODES)]
        low = builder.fadd(lanes[0], lanes[1], flags=_FAST)
        return builder.fadd(low, builder.fadd(lanes[2], lanes[3], flags=_FAST), flags=_FAST)

    return signature, generate


# Typed as Any: called from compiled code, they take one argument less than they are defined with.
spread: Any = intrinsic(_spread)
gather: Any = intrinsic(_gather)
