"""How the chromosomes of a clinical metaphase lie together: crossing, touching, alongside each other, or free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kemr_lightning.data.synthetic.shape import Shape
from kemr_lightning.data.synthetic.strokes import jitted

FloatArray = NDArray[np.floating[Any]]
Float32 = NDArray[np.float32]

_CELLS = 4
"""Cells of the map of distances in a chromosome's width."""

_REACH = 3.0
"""Largest distance that the map knows, in chromosome widths."""

_CANDIDATES = 48
"""Places compared for each chromosome."""


@dataclass(frozen=True)
class Crowding:
    """How close the chromosomes of one metaphase lie.

    Attributes:
        crossing: Fraction of the chromosomes that are laid across others.
        touching: Fraction of the chromosomes whose end or side is pushed against another.
        alongside: Fraction of the chromosomes that lie parallel to another and against it.
        occupied: Area of the chromosomes as a fraction of that of the cell.
        ragged: Amplitude of the waves of the cell's border, as a fraction of its radius.
        hollow: Radius of the empty middle of the cell, as a fraction of its radius.
    """

    crossing: float
    touching: float
    alongside: float
    occupied: float
    ragged: float = 0.15
    hollow: float = 0.0


class _Map:
    """Distances to the nearest outline around the cell's middle; negative inside chromosomes."""

    def __init__(self, radius: float, width: float) -> None:
        self.cell = width / _CELLS
        self.origin = -radius
        side = int(2 * radius / self.cell) + 1
        self.far = np.float32(_REACH * width)
        self.distance = np.full((side, side), self.far, np.float32)
        self.layers = np.zeros((side, side), np.int16)
        self.latest = np.zeros((side, side), np.int16)
        self.count = 0

    def add(self, discs: _Discs) -> None:
        """Put a chromosome on the map."""
        self.count += 1
        at = (discs.centres - self.origin) / self.cell
        _stamp(self.distance, self.layers, self.latest, self.count, at, discs.radii, self.cell, float(self.far))

    def piled(self, discs: _Discs, offsets: FloatArray) -> NDArray[np.intp]:
        """How many chromosomes lie on top of each other under the discs' centres at each of the offsets, at most."""
        at = np.rint((discs.centres + offsets[:, None] - self.origin) / self.cell).astype(int)
        at = at.clip(0, len(self.layers) - 1)
        return np.asarray(self.layers[at[..., 1], at[..., 0]].max(axis=1))

    def look_up(self, centres: FloatArray, radii: FloatArray, offsets: FloatArray) -> FloatArray:
        """Clearances ``(K, D)`` of the discs ``(D, 2)`` at each of the offsets ``(K, 2)``, pixels."""
        clearance = np.empty((len(offsets), len(centres)))
        _read(self.distance, (centres - self.origin) / self.cell, radii, offsets / self.cell, clearance)
        return clearance


@jitted
def _stamp(
    distance: Float32,
    layers: NDArray[np.int16],
    latest: NDArray[np.int16],
    number: int,
    centres: FloatArray,
    radii: FloatArray,
    cell: float,
    far: float,
) -> None:
    """Lower distances to those from discs whose centres are given in cells, and radii in pixels; count the layers."""
    side = len(distance)
    for k in range(len(centres)):
        x, y = centres[k]
        reach = (far + radii[k]) / cell
        for i in range(max(int(y - reach), 0), min(int(y + reach) + 2, side)):
            for j in range(max(int(x - reach), 0), min(int(x + reach) + 2, side)):
                gap = np.float32(cell * np.sqrt((i - y) ** 2 + (j - x) ** 2) - radii[k])
                if gap < distance[i, j]:
                    distance[i, j] = gap
                if gap < 0 and latest[i, j] != number:
                    latest[i, j] = number
                    layers[i, j] += 1


@jitted
def _read(
    distance: Float32, centres: FloatArray, radii: FloatArray, offsets: FloatArray, clearance: FloatArray
) -> None:
    """Interpolate distances at shifted discs, less their radii."""
    last = len(distance) - 1.001
    for k in range(len(offsets)):
        for d in range(len(centres)):
            x = min(max(centres[d, 0] + offsets[k, 0], 0.0), last)
            y = min(max(centres[d, 1] + offsets[k, 1], 0.0), last)
            i, j = int(y), int(x)
            u, v = x - j, y - i
            upper = (1 - u) * distance[i, j] + u * distance[i, j + 1]
            lower = (1 - u) * distance[i + 1, j] + u * distance[i + 1, j + 1]
            clearance[k, d] = (1 - v) * upper + v * lower - radii[d]


@dataclass(frozen=True)
class _Discs:
    """Discs along a shape, about a third of its width apart.

    Attributes:
        centres: ``(D, 2)`` points ``(x, y)``, pixels.
        radii: ``(D,)``, pixels.
        headings: ``(D,)`` directions of the centre line, radians.
    """

    centres: FloatArray
    radii: FloatArray
    headings: FloatArray

    @classmethod
    def along(cls, shape: Shape) -> _Discs:
        """The discs of a shape."""
        half_width = float(shape.half_width.mean())
        stride = max(int(0.6 * half_width / shape.step), 1)
        # The ends are rounded: the outermost discs lie inside the outline.
        inset = min(int(0.6 * half_width / shape.step), len(shape.points) // 3)
        chosen = np.arange(inset, len(shape.points) - inset, stride)
        tangent = shape.frame[0][chosen]
        return cls(shape.points[chosen], shape.half_width[chosen], np.arctan2(tangent[:, 1], tangent[:, 0]))

    def turned(self, angle: float) -> _Discs:
        """The discs of the shape turned around the origin."""
        return _Discs(self.centres @ _rotation(angle), self.radii, self.headings + angle)

    def moved(self, offset: FloatArray) -> _Discs:
        """The discs of the shape shifted by ``(dx, dy)``."""
        return _Discs(self.centres + offset, self.radii, self.headings)


def _rotation(angle: float) -> FloatArray:
    """The matrix that turns row vectors by an angle in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, sine], [-sine, cosine]])


def crowd(shapes: list[Shape], width: float, crowding: Crowding, rng: np.random.Generator) -> list[Shape]:
    """Lay chromosomes around the origin, mostly the long ones first.

    Args:
        shapes: Outlines around the origin.
        width: Typical width of a chromosome, pixels.
        crowding: How close they lie.
        rng: Source of randomness.

    Returns:
        The shapes turned and moved to their places, in the given order.
    """
    area = sum(2 * float(shape.half_width.mean()) * shape.length for shape in shapes)
    radius = np.sqrt(area / crowding.occupied / np.pi / (1 - crowding.hollow**2))
    longest = max((shape.length for shape in shapes), default=0.0)
    ground = _Map(1.8 * radius + longest + 2 * width, width)
    stretch = np.exp(rng.normal(0, 0.18))
    waves = [(order, crowding.ragged / order * rng.normal(), rng.uniform(0, 2 * np.pi)) for order in (2, 3, 5)]
    ease = rng.uniform(0.5, 0.65)

    def anywhere(count: int, growth: float) -> FloatArray:
        angle = rng.uniform(0, 2 * np.pi, count)
        border = 1 + sum(amplitude * np.cos(order * angle + phase) for order, amplitude, phase in waves)
        share = rng.random(count) ** ease
        distance = radius * growth * border * (crowding.hollow + (1 - crowding.hollow) * share)
        return np.stack([distance * np.cos(angle) * stretch, distance * np.sin(angle) / stretch], axis=1)

    places: dict[int, tuple[float, FloatArray]] = {}
    laid: list[_Discs] = []
    jitter = rng.normal(1, 0.25, len(shapes))
    for index in sorted(range(len(shapes)), key=lambda index: -shapes[index].length * jitter[index]):
        kind = rng.random()
        discs, place = _Discs.along(shapes[index]), None
        if laid and kind < crowding.crossing:
            place = _across(discs, laid, ground, width, rng)
        elif laid and kind < crowding.crossing + crowding.touching + crowding.alongside:
            parallel = kind >= crowding.crossing + crowding.touching
            place = _against(discs, laid, ground, width, parallel, rng)
        if place is None:
            turn = rng.uniform(0, 2 * np.pi)
            place = turn, _free(discs.turned(turn), ground, width, anywhere, rng)
        places[index] = place
        laid.append(discs.turned(place[0]).moved(place[1]))
        ground.add(laid[-1])
    ordered = [(shape, *places[index]) for index, shape in enumerate(shapes)]
    return [replace(shape, points=shape.points @ _rotation(turn) + offset) for shape, turn, offset in ordered]


def _free(
    discs: _Discs,
    ground: _Map,
    width: float,
    anywhere: Callable[[int, float], FloatArray],
    rng: np.random.Generator,
) -> FloatArray:
    """The shift to a place that is free, or as free as can be found."""
    gap = rng.uniform(0.1, 0.9) * width
    best, most = np.zeros(2), -np.inf
    for growth in (1.0, 1.1, 1.25):
        offsets = anywhere(_CANDIDATES, growth)
        clearance = ground.look_up(discs.centres, discs.radii, offsets).min(axis=1)
        enough = np.nonzero(clearance > gap)[0]
        if len(enough) > 0:
            return np.asarray(offsets[enough[0]])
        top = int(np.argmax(clearance))
        if clearance[top] > most:
            best, most = offsets[top], float(clearance[top])
    return best


def _target(laid: list[_Discs], rng: np.random.Generator) -> tuple[_Discs, int]:
    """A chromosome that lies there, drawn by its length, and the number of one of its discs."""
    sizes = np.cumsum([len(discs.centres) for discs in laid])
    number = int(rng.integers(sizes[-1]))
    which = int(np.searchsorted(sizes, number, side="right"))
    return laid[which], number - (int(sizes[which - 1]) if which > 0 else 0)


def _across(
    discs: _Discs, laid: list[_Discs], ground: _Map, width: float, rng: np.random.Generator
) -> tuple[float, FloatArray] | None:
    """The turn and the shift that lay a shape across another; None if no place was found."""
    for _ in range(3):
        other, at = _target(laid, rng)
        middle = int(rng.integers(len(discs.centres)))
        turn = other.headings[at] - discs.headings[middle] + np.pi / 2 + np.clip(rng.normal(0, 0.5), -1.1, 1.1)
        own = discs.turned(float(turn))
        nodes = rng.integers(0, len(own.centres), _CANDIDATES // 3)
        offsets = other.centres[at] - own.centres[nodes] + rng.normal(0, 0.25 * width, (len(nodes), 2))
        clearance = ground.look_up(own.centres, own.radii, offsets)
        # Discs are 0.3 widths apart: a steep crossing covers four to six of them, and more than one may be crossed.
        deep = (clearance < -0.4 * width).sum(axis=1)
        allowed = np.minimum(14 if rng.random() < 0.25 else 7, 0.6 * len(own.centres) + 1)
        # Crossings of three chromosomes at one place are rare.
        highest = 2 if rng.random() < 0.15 else 1
        fits = np.nonzero((deep > 0) & (deep <= allowed) & (ground.piled(own, offsets) <= highest))[0]
        if len(fits) > 0:
            return float(turn), np.asarray(offsets[fits[0]])
    return None


def _against(
    discs: _Discs, laid: list[_Discs], ground: _Map, width: float, parallel: bool, rng: np.random.Generator
) -> tuple[float, FloatArray] | None:
    """The turn and the shift that push a shape against another, parallel to it or not; None if no place was found."""
    gap = rng.normal(0.0, 0.09) * width
    for _ in range(3):
        other, at = _target(laid, rng)
        turn = rng.uniform(0, 2 * np.pi)
        if parallel:
            middle = int(rng.integers(len(discs.centres)))
            turn = other.headings[at] - discs.headings[middle] + rng.normal(0, 0.2) + np.pi * rng.integers(2)
        own = discs.turned(float(turn))
        nodes = rng.integers(0, len(own.centres), _CANDIDATES)
        side = other.headings[at] + np.pi / 2 * rng.choice([-1, 1], _CANDIDATES) + rng.normal(0, 0.3, _CANDIDATES)
        reach = other.radii[at] + own.radii[nodes] + gap + rng.uniform(0, 0.3 * width, _CANDIDATES)
        towards = np.stack([np.cos(side), np.sin(side)], axis=1)
        offsets = other.centres[at] + towards * reach[:, None] - own.centres[nodes]
        error = np.abs(ground.look_up(own.centres, own.radii, offsets).min(axis=1) - gap)
        best = int(np.argmin(error))
        if error[best] < 0.12 * width:
            return float(turn), np.asarray(offsets[best])
    return None
