"""Compiled mean-field updates on crops that share their parameters, each with a filter on its own bilateral grid."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kemr_lightning.refinement.engines.bilateral_grid import (
    Float32,
    Interpolation,
    Pixels,
    Spans,
    Workspace,
    cells,
    filter_in_bands,
    kernel,
    scratch_cells,
    strides_of,
)


class Group(NamedTuple):
    """Crops that share their parameters, among all pixels of the image's crops.

    Attributes:
        levels: ``(P,)`` uint8 intensities of all crops, end to end.
        z0: ``(P,)`` logits of their initial probabilities.
        refined: ``(P,)`` refined probabilities; filled in for the group's crops.
        starts: ``(n,)`` int64, where each of the group's crops begins.
        sizes: ``(n, 2)`` int64 heights and widths.
    """

    levels: NDArray[np.uint8]
    z0: Float32
    refined: Float32
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]


class Settings(NamedTuple):
    """What the crops of a group share, besides the grid's `Interpolation`.

    Attributes:
        appearance_weight: Weight of the appearance kernel; 0 leaves it out.
        smoothness_weight: Weight of the smoothness kernel; 0 leaves it out.
        smoothing: ``(R + 1,)`` float32 values of the smoothness kernel at distances 0 .. R, R even.
        iterations: Mean-field updates.
        least_change: Change of ``tanh(z / 2)`` up to which a pixel is not spread again.
        reach: Pixels from a change up to which results are read back.
        far: Pixels at which the appearance kernel ends.
        most_cells: Cells of the grid at a time.
        most_rough: Roughness above which a crop is left for a finer grid.
    """

    appearance_weight: float
    smoothness_weight: float
    smoothing: Float32
    iterations: int
    least_change: float
    reach: int
    far: int
    most_cells: int
    most_rough: float


class Smoothing(NamedTuple):
    """The smoothness kernel on a crop; without it, only ``norm`` has a meaning (it is 1).

    Attributes:
        total: ``(pixels,)``, the kernel applied to everything that was spread.
        norm: ``(pixels,)``, 1 / sqrt(D).
        scale: ``(pixels,)``, this norm over the appearance kernel's: changes come multiplied by the latter.
        padded: ``width + 2 R`` floats, zero where the crop is not.
        rows: ``(height + 2 R) * width`` floats, zero where the crop is not.
    """

    total: Float32
    norm: Float32
    scale: Float32
    padded: Float32
    rows: Float32


class Appearance(NamedTuple):
    """The appearance kernel on a crop.

    Attributes:
        total: ``(pixels,)``, the kernel applied to everything that was spread.
        norm: ``(pixels,)``, 1 / sqrt(D); 1 without the kernel.
    """

    total: Float32
    norm: Float32


@kernel
def tanh_half(z: Float32, out: Float32) -> None:
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
def smooth(values: Float32, smoothing: Smoothing, given: NDArray[np.int64], width: int, taps: Float32) -> None:
    """``total += Gy (scale values) Gx`` with Gaussians cut at R, given by their taps; rows of zeros are skipped."""
    scale, padded, rows = smoothing.scale, smoothing.padded, smoothing.rows
    far = len(taps) - 1
    height = len(given)
    changed = np.zeros(height + 2 * far, dtype=np.bool_)
    for y in range(height):
        changed[far + y] = given[y, 0] < given[y, 1]
        target = rows[(far + y) * width : (far + y + 1) * width]
        if not changed[far + y]:
            target[:] = np.float32(0)
            continue
        row_values, row_scale = values[y * width : (y + 1) * width], scale[y * width : (y + 1) * width]
        inner = padded[far : far + width]
        for x in range(width):
            inner[x] = row_values[x] * row_scale[x]
            target[x] = taps[0] * inner[x]
        # Two distances at a time: half the memory traffic of one.
        for r in range(1, far + 1, 2):
            back1, ahead1, tap1 = padded[far - r : far - r + width], padded[far + r : far + r + width], taps[r]
            back2, ahead2 = padded[far - r - 1 : far - r - 1 + width], padded[far + r + 1 : far + r + 1 + width]
            tap2 = taps[r + 1]
            for x in range(width):
                target[x] += tap1 * (back1[x] + ahead1[x]) + tap2 * (back2[x] + ahead2[x])
    _smooth_along_y(rows, changed, smoothing.total, width, taps)


@kernel
def _smooth_along_y(rows: Float32, changed: NDArray[np.bool_], total: Float32, width: int, taps: Float32) -> None:
    """``total += Gy rows``; ``rows`` has R rows more than the crop above and below, as ``changed`` has."""
    far = len(taps) - 1
    for y in range(len(changed) - 2 * far):
        target = total[y * width : (y + 1) * width]
        centre = far + y
        if changed[centre]:
            source = rows[centre * width : (centre + 1) * width]
            for x in range(width):
                target[x] += taps[0] * source[x]
        for r in range(1, far + 1, 2):
            if changed[centre - r - 1] or changed[centre - r] or changed[centre + r] or changed[centre + r + 1]:
                above1, below1, tap1 = rows[(centre - r) * width :], rows[(centre + r) * width :], taps[r]
                above2, below2, tap2 = rows[(centre - r - 1) * width :], rows[(centre + r + 1) * width :], taps[r + 1]
                for x in range(width):
                    target[x] += tap1 * (above1[x] + below1[x]) + tap2 * (above2[x] + below2[x])


@kernel
def find_changes(
    z: Float32, norm: Float32, spread_before: Float32, delta: Float32, width: int, least_change: float,
    updated: NDArray[np.int64], given: NDArray[np.int64],
) -> bool:  # fmt: skip
    """Find the pixels whose ``tanh(z / 2)`` has changed since it was last spread.

    Smaller changes wait. They are not forgotten, because the comparison is with what was spread, not with the last
    value.

    Args:
        z: ``(pixels,)`` logits.
        norm: ``(pixels,)``, multiplies ``tanh(z / 2)`` before it is spread.
        spread_before: ``(pixels,)``, the sum of what was spread; the changes are added.
        delta: ``(pixels,)``; filled with the changes, 0 for those that wait.
        width: Columns of the crop.
        least_change: Changes of ``tanh(z / 2)`` up to this one wait.
        updated: ``(height, 2)``, the first and last + 1 column of each row that may have changed.
        given: ``(height, 2)``; filled with the first and last + 1 changed column of each row.

    Returns:
        Whether there is any change.
    """
    least = np.float32(least_change)
    state = np.empty(width, dtype=np.float32)
    found = False
    for y in range(len(given)):
        given[y, 0], given[y, 1] = width, 0
        if updated[y, 0] >= updated[y, 1]:
            continue
        begin, end = y * width + updated[y, 0], y * width + updated[y, 1]
        row_norm, before, now = norm[begin:end], spread_before[begin:end], delta[begin:end]
        tanh = state[: end - begin]
        tanh_half(z[begin:end], tanh)
        most = np.float32(0)
        for x in range(len(tanh)):
            difference = tanh[x] * row_norm[x] - before[x]
            moved = difference if abs(difference) > least * row_norm[x] else np.float32(0)
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
def refine_group(
    group: Group, interpolation: Interpolation, settings: Settings, roughness: NDArray[np.float64]
) -> None:
    """Mean field on the crops of a group.

    Args:
        group: The crops; ``refined`` is filled in.
        interpolation: How the appearance kernel is written on a grid.
        settings: The kernels and the updates.
        roughness: ``(n,)`` zeros; filled with the mean of 1 / D of each crop (0 without an appearance kernel). A crop
            with more than ``most_rough`` is not refined: it needs a finer grid.
    """
    workspace = Workspace(np.empty(0, dtype=np.float32), np.empty(0, dtype=np.float32))
    for which in range(len(group.starts)):
        height, width = group.sizes[which, 0], group.sizes[which, 1]
        begin, end = group.starts[which], group.starts[which] + height * width
        levels, z0 = group.levels[begin:end], group.z0[begin:end]
        pixels = Pixels(levels, height, width, int(levels.min()), int(levels.max()))
        workspace = _enough(workspace, pixels, interpolation, settings)
        spans = Spans(np.zeros((height, 2), dtype=np.int64), np.zeros((height, 2), dtype=np.int64))
        spans.given[:, 1] = width
        appearance = Appearance(np.zeros(len(z0), dtype=np.float32), np.ones(len(z0), dtype=np.float32))
        if settings.appearance_weight > 0 and settings.iterations > 0:
            _normalise_appearance(pixels, interpolation, workspace, spans, settings, appearance, roughness[which:])
            if roughness[which] > settings.most_rough:
                continue
        smoothing = _make_smoothing(pixels, spans, settings, appearance.norm)
        z = z0.copy()
        _update(z, z0, pixels, interpolation, workspace, spans, settings, appearance, smoothing)
        _to_probability(z, group.refined[begin:end])


@kernel
def _enough(workspace: Workspace, pixels: Pixels, interpolation: Interpolation, settings: Settings) -> Workspace:
    """A workspace that is large enough for a crop: the given one where it is."""
    grid, scratch = workspace.grid, workspace.scratch
    strides = strides_of(interpolation, pixels, 0, pixels.width)
    fewest = cells(interpolation, min(1 + 2 * settings.far, pixels.height), strides.row)
    needed = min(cells(interpolation, pixels.height, strides.row), max(fewest, settings.most_cells))
    if settings.appearance_weight > 0 and needed > len(grid):
        grid = np.empty(needed, dtype=np.float32)
    scratch_needed = scratch_cells(interpolation, strides)
    if scratch_needed > len(scratch):
        scratch = np.empty(scratch_needed, dtype=np.float32)
    return Workspace(grid, scratch)


@kernel
def _normalise_appearance(
    pixels: Pixels, interpolation: Interpolation, workspace: Workspace, spans: Spans, settings: Settings,
    appearance: Appearance, roughness: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill in the appearance kernel's norm, and ``roughness[0]`` with the mean of 1 / D."""
    total, norm = appearance.total, appearance.norm
    filter_in_bands(pixels, interpolation, workspace, norm, total, spans, settings.reach, settings.far)
    for i in range(len(norm)):
        # The self term makes D at least 1; the windows' error must not take it to zero.
        norm[i] = 1 / math.sqrt(max(total[i], np.float32(0.5)))
        roughness[0] += norm[i] * norm[i] / len(norm)
    total[:] = np.float32(0)


@kernel
def _make_smoothing(pixels: Pixels, spans: Spans, settings: Settings, appearance_norm: Float32) -> Smoothing:
    """The smoothness kernel on a crop, its norm filled in."""
    count, width = len(appearance_norm), pixels.width
    total, norm = np.zeros(count, dtype=np.float32), np.ones(count, dtype=np.float32)
    if settings.smoothness_weight <= 0 or settings.iterations <= 0:
        nothing = np.empty(0, dtype=np.float32)
        return Smoothing(total, norm, nothing, nothing, nothing)
    beyond = 2 * (len(settings.smoothing) - 1)
    padded = np.zeros(width + beyond, dtype=np.float32)
    rows = np.zeros((pixels.height + beyond) * width, dtype=np.float32)
    smoothing = Smoothing(total, norm, np.ones(count, dtype=np.float32), padded, rows)
    smooth(norm, smoothing, spans.given, width, settings.smoothing)
    for i in range(count):
        norm[i] = 1 / math.sqrt(total[i])
        smoothing.scale[i] = norm[i] / appearance_norm[i]
    total[:] = np.float32(0)
    return smoothing


@kernel
def _update(
    z: Float32, z0: Float32, pixels: Pixels, interpolation: Interpolation, workspace: Workspace, spans: Spans,
    settings: Settings, appearance: Appearance, smoothing: Smoothing,
) -> None:  # fmt: skip
    """Run the updates on ``z``, until nothing changes any more."""
    width, updated = pixels.width, np.zeros((pixels.height, 2), dtype=np.int64)
    updated[:, 1] = width
    delta, spread_before = np.empty(len(z), dtype=np.float32), np.zeros(len(z), dtype=np.float32)
    for _ in range(settings.iterations):
        if not find_changes(
            z, appearance.norm, spread_before, delta, width, settings.least_change, updated, spans.given
        ):
            break
        if settings.appearance_weight > 0:
            filter_in_bands(
                pixels, interpolation, workspace, delta, appearance.total, spans, settings.reach, settings.far
            )
        if settings.smoothness_weight > 0:
            smooth(delta, smoothing, spans.given, width, settings.smoothing)
            updated[:, 0], updated[:, 1] = 0, width
        else:
            updated[:] = spans.wanted
        _add_up(z, z0, updated, width, settings, appearance, smoothing)


@kernel
def _add_up(
    z: Float32, z0: Float32, updated: NDArray[np.int64], width: int, settings: Settings, appearance: Appearance,
    smoothing: Smoothing,
) -> None:  # fmt: skip
    """``z = z0 + w1 K~1 tanh(z / 2) + w2 K~2 tanh(z / 2)`` at the updated columns of each row."""
    appearance_weight, smoothness_weight = (
        np.float32(settings.appearance_weight),
        np.float32(settings.smoothness_weight),
    )
    for y in range(len(updated)):
        if updated[y, 0] < updated[y, 1]:
            begin, end = y * width + updated[y, 0], y * width + updated[y, 1]
            new, initial = z[begin:end], z0[begin:end]
            like_norm, like_total = appearance.norm[begin:end], appearance.total[begin:end]
            near_norm, near_total = smoothing.norm[begin:end], smoothing.total[begin:end]
            for i in range(len(new)):
                new[i] = (
                    initial[i]
                    + appearance_weight * like_norm[i] * like_total[i]
                    + smoothness_weight * near_norm[i] * near_total[i]
                )


@kernel
def _to_probability(z: Float32, target: Float32) -> None:
    """``target = sigmoid(z)``."""
    tanh_half(z, target)
    for i in range(len(target)):
        target[i] = np.float32(0.5) + np.float32(0.5) * target[i]
