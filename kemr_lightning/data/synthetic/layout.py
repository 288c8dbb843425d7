"""How chromosomes lie on the slide: bent, and across others, against others or free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from kemr_lightning.data.synthetic.karyotype import Ideogram
from kemr_lightning.data.synthetic.shape import Shape

FloatArray = NDArray[np.floating[Any]]

_TRIALS = 30
"""Attempts to place a chromosome across or against another before a freer place is accepted."""


@dataclass(frozen=True)
class Form:
    """What the shapes of the chromosomes of one metaphase have in common.

    Attributes:
        condensed: Degree of condensation, from 0 (prometaphase) to 1 (late metaphase).
        width: Width of a pair of sister chromatids, pixels.
        pixels_per_megabase: Length of the chromosomes on the image per length of their DNA.
        bend: Strength of bending, 0 for straight chromosomes, about 1 for a prometaphase.
        constriction: Depth of the centromere's waist, as a fraction of the width.
        notch: Typical depth of the notch between sister chromatids at the ends, in [0, 1]; 0 for none.
    """

    condensed: float
    width: float
    pixels_per_megabase: float
    bend: float
    constriction: float
    notch: float


@dataclass(frozen=True)
class Spread(Form):
    """What the chromosomes of one metaphase have in common, their arrangement included.

    Attributes:
        crossing: Fraction of the chromosomes that are laid across another.
        touching: Fraction of the chromosomes that are pushed against another.
        cut: Whether the image's border may cut chromosomes.
        density: Area of the cluster, as a multiple of the chromosomes' own area.
    """

    crossing: float
    touching: float
    cut: bool
    density: float


def centre_line(length: float, half_width: float, bend: float, rng: np.random.Generator) -> FloatArray:
    """Draw a smooth curve: a gentle sweep with a few local bends, none tighter than the half-width.

    A curve that comes back to itself is drawn again with weaker bending.

    Args:
        length: Arc length, pixels.
        half_width: Half the chromosome's width, pixels.
        bend: Strength of bending, as in `Form`.
        rng: Source of randomness.

    Returns:
        ``(M, 2)`` float64 points at equal arc length (0.5 to 1 pixel), starting at the origin in a random direction.
    """
    count = max(int(np.ceil(length / min(1.0, half_width / 5))), 8) + 1
    s = np.linspace(0, length, count)
    for strength in (bend, bend, bend, bend / 2, bend / 4, 0.0):
        aspect = length / (2 * half_width)
        curvature = np.full(count, rng.normal(0, 0.09 * strength * aspect) / length)
        for _ in range(rng.poisson(0.28 * aspect * min(strength, 1.2))):
            spread = rng.uniform(0.5, 2.2) * half_width
            angle = rng.normal(0, 0.65 * strength)
            at = rng.uniform(0.08, 0.92) * length
            curvature += angle / (spread * np.sqrt(2 * np.pi)) * np.exp(-((s - at) ** 2) / (2 * spread**2))
        curvature = np.clip(curvature, -0.85 / half_width, 0.85 / half_width)
        step = length / (count - 1)
        # Each segment follows the heading at its middle, so all segments have exactly the same length.
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum((curvature[:-1] + curvature[1:]) / 2) * step
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * step
        points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
        some = points[:: max(int(half_width / step), 1)]
        apart = np.abs(np.subtract.outer(np.arange(len(some)), np.arange(len(some)))) > 4
        if not np.any(apart & (cdist(some, some) < 2.3 * half_width)):
            break
    return points


def chromosome_shape(bands: Ideogram, form: Form, rng: np.random.Generator) -> Shape:
    """Draw the outline of one chromosome.

    Args:
        bands: Its band map.
        form: The metaphase's traits.
        rng: Source of randomness.

    Returns:
        The outline, with its centre line's mean point at the origin.
    """
    length = max(bands.length * form.pixels_per_megabase * rng.normal(1, 0.04), 1.15 * form.width)
    half_width = form.width / 2 * np.clip(rng.normal(1, 0.05), 0.85, 1.15)
    points = centre_line(length, half_width, form.bend, rng)
    relative = np.linspace(0, 1, len(points))

    def waist(at: float, depth: float, extent: float) -> FloatArray:
        return np.asarray(1 - depth * np.exp(-(((relative - at) * length / (extent * half_width)) ** 2) / 2))

    # An undulation of a few per cent and a slight taper keep outlines from looking machined.
    profile = 1 + 0.03 * np.sin(2 * np.pi * (relative * length / (rng.uniform(3, 7) * half_width) + rng.random()))
    profile *= 1 + rng.normal(0, 0.04) * (relative - 0.5)
    profile *= waist(bands.centromere, np.clip(rng.normal(form.constriction, 0.08), 0.04, 0.6), rng.uniform(0.35, 0.6))
    if "s" in bands.stains:
        # Chromosomes 13, 14, 15, 21 and 22 carry satellites on a thin stalk.
        stalk = bands.stains.index("s")
        profile *= waist(bands.edges[stalk : stalk + 2].mean(), rng.uniform(0.05, 0.35), 0.5)
        profile *= 1 - rng.uniform(0, 0.15) * (relative < bands.centromere)
    ends = np.clip(rng.normal(form.notch, 0.15, 2), 0, 1) * (form.notch > 0)
    cap = half_width * rng.uniform(0.6, 0.95)
    return Shape(points - points.mean(axis=0), half_width * profile, cap, (float(ends[0]), float(ends[1])))


class _Nodes:
    """Discs that fill the chromosomes placed so far; distances between discs approximate those between outlines.

    Attributes:
        centres: ``(K, 2)`` float64 points ``(x, y)``, pixels.
        radii: ``(K,)`` float64, pixels.
        owner: ``(K,)`` int, the chromosome's index; -1 for an obstacle.
    """

    def __init__(self) -> None:
        self.centres = np.zeros((0, 2))
        self.radii = np.zeros(0)
        self.owner = np.zeros(0, dtype=int)

    def add(self, centres: FloatArray, radii: FloatArray, owner: int) -> None:
        """Add the discs of one chromosome or obstacle."""
        self.centres = np.concatenate([self.centres, centres])
        self.radii = np.concatenate([self.radii, radii])
        self.owner = np.concatenate([self.owner, np.full(len(centres), owner)])

    def clearance(self, centres: FloatArray, radii: FloatArray, keep: NDArray[np.bool_] | None = None) -> FloatArray:
        """Free space around discs.

        Args:
            centres: ``(N, 2)`` points, pixels.
            radii: ``(N,)``, pixels.
            keep: ``(K,)`` bool, the placed discs to consider; None for all.

        Returns:
            ``(N,)`` distances to the nearest placed disc, pixels; negative where they overlap.
        """
        where = slice(None) if keep is None else keep
        if len(self.centres[where]) == 0:
            return np.full(len(centres), np.inf)
        gaps = cdist(centres, self.centres[where]) - self.radii[where]
        nearest: FloatArray = gaps.min(axis=1) - radii
        return nearest


def _discs(shape: Shape) -> tuple[FloatArray, FloatArray]:
    """Centres and radii of discs along a shape, a quarter of its width apart."""
    stride = max(int(0.5 * shape.half_width.mean() / shape.step), 1)
    chosen = np.unique(np.append(np.arange(0, len(shape.points), stride), len(shape.points) - 1))
    return shape.points[chosen], shape.half_width[chosen]


def arrange(
    shapes: list[Shape],
    obstacles: list[tuple[float, float, float]],
    spread: Spread,
    image_size: tuple[int, int],
    rng: np.random.Generator,
) -> list[Shape]:
    """Place chromosomes on the image, the long ones first.

    Args:
        shapes: Outlines around the origin.
        obstacles: Discs ``(x, y, radius)`` that are already there, such as nuclei.
        spread: The metaphase's traits.
        image_size: ``(H, W)``.
        rng: Source of randomness.

    Returns:
        The shapes moved to their places, in the given order.
    """
    height, width = image_size
    frame = np.array([width, height], dtype=np.float64)
    area = spread.density * sum(2 * shape.half_width.mean() * shape.length for shape in shapes)
    aspect = rng.uniform(0.8, 1.25) * np.sqrt(width / height)
    radii = np.minimum(np.sqrt(area / np.pi) * np.array([aspect, 1 / aspect]), frame / 2)
    middle = frame / 2 + rng.uniform(-1, 1, 2) * (frame / 2 - radii) * rng.uniform(0, 1)
    nodes = _Nodes()
    for x, y, radius in obstacles:
        nodes.add(np.array([[x, y]]), np.array([radius]), -1)

    placed: list[Shape | None] = [None] * len(shapes)
    jitter = rng.normal(1, 0.25, len(shapes))
    order = sorted(range(len(shapes)), key=lambda index: -shapes[index].length * jitter[index])
    for index in order:
        shape = shapes[index]
        kind = rng.random()
        offset = None
        if kind < spread.crossing:
            offset = _across(shape, nodes, spread, frame, rng)
        elif kind < spread.crossing + spread.touching:
            offset = _against(shape, nodes, spread, frame, rng)
        if offset is None:
            offset = _free(shape, nodes, spread, frame, middle, radii, rng)
        placed[index] = shape.moved(offset)
        nodes.add(*_discs(shape.moved(offset)), index)
    return [shape for shape in placed if shape is not None]


def _in_frame(centres: FloatArray, radii: FloatArray, frame: FloatArray, spread: Spread) -> bool:
    """Whether discs lie inside the image, or at least half of them where the border may cut chromosomes."""
    outside = np.any((centres < radii[:, None] + 1) | (centres > frame - radii[:, None] - 1), axis=1)
    return bool(outside.mean() <= 0.5) if spread.cut else not outside.any()


def _free(
    shape: Shape,
    nodes: _Nodes,
    spread: Spread,
    frame: FloatArray,
    middle: FloatArray,
    radii: FloatArray,
    rng: np.random.Generator,
) -> FloatArray:
    """Find a free place inside the cluster, which grows until there is one.

    Args:
        shape: Outline around the origin.
        nodes: What has been placed.
        spread: The metaphase's traits.
        frame: ``(width, height)`` of the image.
        middle: ``(x, y)``, centre of the cluster.
        radii: Half axes of the cluster, pixels.
        rng: Source of randomness.

    Returns:
        The shift ``(dx, dy)`` to the first place with enough space around it, else to the one with the most.
    """
    centres, discs = _discs(shape)
    best, best_gap = middle, -np.inf
    for trial in range(2 * _TRIALS):
        angle, distance = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
        growth = 1 + max(trial - 8, 0) / _TRIALS
        offset = middle + radii * growth * distance * np.array([np.cos(angle), np.sin(angle)])
        if not _in_frame(centres + offset, discs, frame, spread):
            # Move the place inside; an image may be too small for anything better.
            low, high = (centres - discs[:, None]).min(axis=0), (centres + discs[:, None]).max(axis=0)
            offset = np.clip(offset, np.minimum(1 - low, frame / 2), np.maximum(frame - 1 - high, frame / 2))
        gap = float(nodes.clearance(centres + offset, discs).min())
        if gap > best_gap:
            best, best_gap = offset, gap
        if gap > rng.uniform(0.12, 0.6) * spread.width:
            break
    return best


def _across(
    shape: Shape, nodes: _Nodes, spread: Spread, frame: FloatArray, rng: np.random.Generator
) -> FloatArray | None:
    """Find a place where the shape crosses one other chromosome steeply and stays clear of the rest, or None."""
    candidates = np.nonzero(nodes.owner >= 0)[0]
    if len(candidates) == 0:
        return None
    centres, discs = _discs(shape)
    for _ in range(_TRIALS):
        target = rng.choice(candidates)
        offset = nodes.centres[target] - centres[rng.integers(len(centres))] + rng.normal(0, 0.1, 2) * spread.width
        partner = nodes.owner == nodes.owner[target]
        deep = nodes.clearance(centres + offset, discs, partner) < -0.6 * spread.width
        apart = nodes.clearance(centres + offset, discs, ~partner).min() > 0.08 * spread.width
        steep = 0 < deep.sum() <= min(5, 0.5 * len(centres))
        if steep and apart and _in_frame(centres + offset, discs, frame, spread):
            return np.asarray(offset)
    return None


def _against(
    shape: Shape, nodes: _Nodes, spread: Spread, frame: FloatArray, rng: np.random.Generator
) -> FloatArray | None:
    """Find a place where the shape just touches another, by moving it there from outside, or None."""
    candidates = np.nonzero(nodes.owner >= 0)[0]
    if len(candidates) == 0:
        return None
    centres, discs = _discs(shape)
    for _ in range(_TRIALS):
        target = nodes.centres[rng.choice(candidates)]
        angle = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.cos(angle), np.sin(angle)])
        offset = target - direction * (shape.length / 2 + 2 * spread.width)
        if nodes.clearance(centres + offset, discs).min() < 0:
            continue
        for _ in range(40):
            gap = nodes.clearance(centres + offset, discs).min()
            if gap < 0.02 * spread.width:
                break
            # Nothing is nearer than the gap, so that step is safe.
            offset = offset + direction * gap
        offset = offset + direction * rng.uniform(-0.05, 0.22) * spread.width
        if gap < 0.1 * spread.width and _in_frame(centres + offset, discs, frame, spread):
            return np.asarray(offset)
    return None
