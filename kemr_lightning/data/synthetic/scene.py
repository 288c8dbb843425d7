"""One synthetic metaphase: its chromosomes, whatever else lies on the slide, and the image of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kemr_lightning.data.synthetic.karyotype import ideogram, karyotype
from kemr_lightning.data.synthetic.layout import Spread, arrange, chromosome_shape
from kemr_lightning.data.synthetic.render import Optics, blurred, expose, field, stack, texture
from kemr_lightning.data.synthetic.settings import (
    LOOKS,
    MIXED,
    PLAIN_OVERLAP,
    Metaphase,
    MetaphaseSettings,
    default_count,
)
from kemr_lightning.data.synthetic.shape import Footprint, Shape, footprint

FloatArray = NDArray[np.floating[Any]]

_VISIBLE = 0.25
"""Chromosomes are left out of the image if less than this fraction of their area would lie inside it."""


def metaphase(settings: MetaphaseSettings, rng: np.random.Generator) -> Metaphase:
    """Make one metaphase.

    Args:
        settings: What it is to look like. Without a ``count`` a plain scene has `default_count` chromosomes, at times
            one or two fewer.
        rng: Decides everything that the settings leave open.
    """
    if settings.scene == "plain":
        return _plain(settings, rng)
    # Here, because clinical scenes need numba, which takes a second to import.
    from kemr_lightning.data.synthetic.clinical import clinical

    return clinical(settings, rng)


def _plain(settings: MetaphaseSettings, rng: np.random.Generator) -> Metaphase:
    """Make a metaphase on a nearly clean slide."""
    look = LOOKS[int(rng.integers(2))] if settings.look == MIXED else settings.look
    image_size = settings.image_size
    typical = settings.draw_width(rng)
    if settings.count_range is None:
        full = default_count(image_size, typical)
        number = full - int(rng.integers(1, 3)) if full > 4 and rng.random() < 0.25 else full
    else:
        lowest, highest = settings.count_range
        number = int(rng.integers(lowest, highest + 1))
    spread = _spread(typical, PLAIN_OVERLAP if settings.overlap is None else settings.overlap, rng)
    optics = Optics.sample(look, spread.width, rng)

    names = karyotype(number, rng)
    shapes = [chromosome_shape(ideogram(name), spread, rng) for name in names]
    layers, obstacles = _clutter(image_size, spread.width, look, rng)
    shapes = arrange(shapes, obstacles, spread, image_size, rng)

    contrast = rng.uniform(0.55, 1.1) if look == "gband" else rng.uniform(0.35, 1.15)
    # Sister chromatids separate as chromosomes condense; in G-bands they can seldom be distinguished.
    groove = max(rng.normal(0.0, 0.06), 0.0) if look == "gband" else rng.uniform(0, 0.15 + 0.35 * spread.condensed)
    density = optics.gain if look == "gband" else None
    ragged = rng.uniform(0.02, 0.06) * spread.width * field(image_size, 0.3 * spread.width, rng)
    kept: list[tuple[str, Shape, Footprint]] = []
    for name, shape in zip(names, shapes, strict=True):
        where = footprint(shape, image_size)
        full_area = 2 * float(shape.half_width.mean()) * shape.length
        if where is None or where.coverage.sum() < _VISIBLE * full_area or not where.mask.any():
            continue
        half_width = float(shape.half_width.mean())
        stain = texture(ideogram(name), look, contrast, groove, shape.length, 2 * half_width, rng)
        rows, columns = where.mask.shape
        shift = ragged[where.y0 : where.y0 + rows, where.x0 : where.x0 + columns]
        layers.append((where.x0, where.y0, stain.paint(where, shape.length, half_width, density, shift)))
        kept.append((name, shape, where))
    image = expose(stack(layers, image_size), optics, spread.width, rng)
    return Metaphase(
        image, [item[0] for item in kept], [item[1] for item in kept], [item[2] for item in kept], spread.width
    )


def _spread(typical: float, overlap: float, rng: np.random.Generator) -> Spread:
    """Draw the traits of a metaphase: condensed ones have short, wide, straight chromosomes with marked centromeres."""
    condensed = rng.uniform(0, 1)
    width = typical * (0.9 + 0.15 * condensed) * rng.uniform(0.94, 1.06)
    # At 1280x1024 the longest chromosome, 249 Mb, is about 180 pixels long and 22 wide.
    aspect = 10.0 - 3.2 * condensed + rng.normal(0, 0.3)
    crossing = rng.uniform(0.3, 0.7)
    return Spread(
        condensed=condensed,
        width=width,
        pixels_per_megabase=aspect * typical / 249,
        bend=rng.uniform(0.5, 1.2) * (1.15 - 0.7 * condensed),
        constriction=0.12 + 0.28 * condensed,
        notch=(rng.uniform(0, 0.6) * condensed) if rng.random() < 0.6 else 0.0,
        crossing=overlap * crossing,
        touching=overlap * (1 - crossing),
        cut=bool(rng.random() < 0.15),
        density=rng.uniform(3.2, 9.0),
    )


def _clutter(
    image_size: tuple[int, int], width: float, look: str, rng: np.random.Generator
) -> tuple[list[tuple[int, int, FloatArray]], list[tuple[float, float, float]]]:
    """Draw interphase nuclei, stain precipitate and out-of-focus dust.

    Args:
        image_size: ``(H, W)``.
        width: Nominal width of a chromosome, pixels.
        look: ``"gband"`` or ``"fluorescence"``.
        rng: Source of randomness.

    Returns:
        Painted windows ``(x0, y0, values)``, and the discs ``(x, y, radius)`` that chromosomes have to avoid.
    """
    height, columns = image_size
    layers: list[tuple[int, int, FloatArray]] = []
    obstacles = []
    room = min(height, columns)
    if rng.random() < 0.3 and room > 16 * width:
        for _ in range(int(rng.integers(1, 4))):
            radius = min(rng.uniform(2.6, 5.0) * width, room / 5)
            # Nuclei lie near the border, where they leave room for the cell.
            side, along = rng.integers(4), rng.random()
            inset = rng.uniform(-0.7, 0.6) * radius
            x = [inset, columns - inset, along * columns, along * columns][side]
            y = [along * height, along * height, inset, height - inset][side]
            level = rng.uniform(0.45, 0.95) if look == "gband" else rng.uniform(0.5, 2.2)
            layers += _blob(x, y, radius, level, 0.12, width, image_size, rng)
            obstacles.append((float(x), float(y), 1.25 * radius))
    specks = rng.poisson(rng.choice([0.5, 4.0, 14.0])) if look == "gband" else rng.poisson(1.5)
    for _ in range(specks):
        x, y = rng.uniform(0, columns), rng.uniform(0, height)
        kind = rng.random()
        if kind < 0.75:
            radius = width * rng.uniform(0.05, 0.22)
            level = rng.uniform(0.4, 2.2) if look == "gband" else rng.uniform(0.2, 1.2)
            layers += _blob(x, y, radius, level, 0.35, width, image_size, rng)
        else:
            # Out-of-focus dust: a faint, wide spot, or the ring of a bubble.
            radius = width * rng.uniform(0.4, 1.2)
            layers += _blob(x, y, radius, rng.uniform(0.04, 0.14), 0.1, width, image_size, rng, soft=0.5 * radius)
    for _ in range(rng.poisson(1.5) if look == "gband" else 0):
        layers += _bubble(rng.uniform(0, columns), rng.uniform(0, height), width, image_size, rng)
    return layers, obstacles


def _window(x: float, y: float, reach: float, image_size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The pixels ``(x0, y0, x1, y1)`` of an image up to ``reach`` from a point; None if there are none."""
    height, columns = image_size
    x0, y0 = max(int(x - reach), 0), max(int(y - reach), 0)
    x1, y1 = min(int(x + reach) + 1, columns), min(int(y + reach) + 1, height)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _blob(
    x: float,
    y: float,
    radius: float,
    level: float,
    wobble: float,
    width: float,
    image_size: tuple[int, int],
    rng: np.random.Generator,
    soft: float = 0.0,
) -> list[tuple[int, int, FloatArray]]:
    """Paint a roundish body of uniform stain with a wavy outline; it is granular if larger than a chromosome's width.

    Args:
        x: Column of its centre.
        y: Row of its centre.
        radius: Pixels.
        level: Stain.
        wobble: Relative amplitude of the outline's waves.
        width: Nominal width of a chromosome, pixels.
        image_size: ``(H, W)``.
        rng: Source of randomness.
        soft: Standard deviation of its blur, pixels.

    Returns:
        One painted window, or none if the body lies outside the image.
    """
    window = _window(x, y, radius * (1.6 + wobble) + 3 * soft + 2, image_size)
    if window is None:
        return []
    x0, y0, x1, y1 = window
    column, row = np.meshgrid(np.arange(x0, x1) + 0.5 - x, np.arange(y0, y1) + 0.5 - y)
    angle = np.arctan2(row, column)
    stretch, turn = rng.uniform(1, 1.35), rng.uniform(0, np.pi)
    outline = radius * np.sqrt(stretch) / np.sqrt(np.cos(angle - turn) ** 2 + (stretch * np.sin(angle - turn)) ** 2)
    for harmonic in (2, 3, 5):
        outline *= 1 + wobble / harmonic * rng.normal() * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi))
    values = level * np.clip(outline - np.hypot(column, row) + 0.5, 0, 1)
    if radius > width:
        values *= 1 + 0.12 * field(values.shape, 0.35 * width, rng) + 0.06 * field(values.shape, radius / 2, rng)
    if soft > 0:
        values = blurred(values, soft)
    return [(x0, y0, np.maximum(values, 0))]


def _bubble(
    x: float, y: float, width: float, image_size: tuple[int, int], rng: np.random.Generator
) -> list[tuple[int, int, FloatArray]]:
    """Paint the dark ring and bright centre of a refracting droplet."""
    radius = rng.uniform(0.2, 0.5) * width
    window = _window(x, y, 2.5 * radius + 3, image_size)
    if window is None:
        return []
    x0, y0, x1, y1 = window
    column, row = np.meshgrid(np.arange(x0, x1) + 0.5 - x, np.arange(y0, y1) + 0.5 - y)
    distance = np.hypot(column, row) / radius
    ring = rng.uniform(0.2, 0.7) * np.exp(-(((distance - 1) / 0.3) ** 2)) - 0.1 * np.exp(-((distance / 0.6) ** 2))
    return [(x0, y0, ring)]
