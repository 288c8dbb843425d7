"""Clinical scenes: whole, crowded metaphases among nuclei and dirt, as laboratories see them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from kemr_lightning.data.synthetic.clutter import Slide, half_cloud
from kemr_lightning.data.synthetic.crowd import crowd
from kemr_lightning.data.synthetic.karyotype import ideogram, karyotype
from kemr_lightning.data.synthetic.layout import chromosome_shape
from kemr_lightning.data.synthetic.looks import Preparation, draw_camera, draw_crowding
from kemr_lightning.data.synthetic.settings import CLINICAL_LOOKS, MIXED, Metaphase, MetaphaseSettings, default_count
from kemr_lightning.data.synthetic.shape import Footprint, Shape
from kemr_lightning.data.synthetic.strokes import stroke

FloatArray = NDArray[np.floating[Any]]

_UNIT = 16.0
"""Width in pixels at which a cell is laid out, before it is scaled to its image."""

_VISIBLE = 0.25
"""Chromosomes are left out of the annotation if less than this fraction of their area lies inside the image."""

_NEIGHBOURED = 0.06
"""Fraction of the images on which chromosomes of a second cell lie; they are chromosomes like the others."""

_SIDES = (600.0, 3200.0)
"""Shortest and longest longer side of an image whose size is not given, pixels."""


def clinical(settings: MetaphaseSettings, rng: np.random.Generator) -> Metaphase:
    """Make one clinical metaphase.

    Args:
        settings: What it is to look like.
        rng: Decides everything that the settings leave open.
    """
    look = _look(settings.look, rng)
    preparation = Preparation.draw(look, rng)
    typical = None if settings.size is None and settings.width is None else settings.draw_width(rng)
    names, shapes = _cell(preparation, _count(settings, typical, rng), settings.overlap, rng)
    own = len(shapes)
    if settings.count is None and rng.random() < _NEIGHBOURED:
        more, beside = _cell(preparation, int(rng.integers(4, 24)), settings.overlap, rng)
        names, shapes = names + more, shapes + _beside(beside, shapes, rng)
    shapes, width, image_size = _framed(shapes, own, settings, typical, look, rng)
    camera = draw_camera(look, width, rng)
    slide = Slide(image_size, width, camera.absorbs, rng)
    _litter(slide, shapes, look, rng)
    ragged = np.float32(rng.uniform(0.02, 0.07) * width) * half_cloud(image_size, 0.3 * width, rng)
    kept: list[tuple[str, Shape, Footprint]] = []
    for name, shape in zip(names, shapes, strict=True):
        half_width = float(shape.half_width.mean())
        stain = preparation.stain(ideogram(name), shape.length, 2 * half_width, rng)
        where = stroke(shape, stain, ragged, slide.canvas, image_size)
        if where is None or not where.mask.any():
            continue
        if where.coverage.sum() >= _VISIBLE * 2 * half_width * shape.length:
            kept.append((name, shape, where))
    image = camera.expose(slide.canvas, width, rng)
    return Metaphase(image, [item[0] for item in kept], [item[1] for item in kept], [item[2] for item in kept], width)


def _cell(
    preparation: Preparation, count: int, overlap: float | None, rng: np.random.Generator
) -> tuple[list[str], list[Shape]]:
    """The names and the shapes of a cell's chromosomes, `_UNIT` pixels wide, around the origin."""
    names = karyotype(count, rng)
    form = preparation.form(_UNIT, rng)
    shapes = []
    for name in names:
        shape = chromosome_shape(ideogram(name), form, rng)
        if form.notch > 0 and preparation.condensed > 0.5 and preparation.look != "gband":
            # The arms of late metaphase chromosomes part from their ends on.
            shape = replace(shape, cap=min(shape.cap * rng.uniform(1, 2.2), 0.4 * shape.length))
        shapes.append(shape)
    return names, crowd(shapes, _UNIT, draw_crowding(preparation.look, overlap, rng), rng)


def _beside(shapes: list[Shape], cell: list[Shape], rng: np.random.Generator) -> list[Shape]:
    """Move some chromosomes of a neighbouring cell to the side of a cell, apart from it."""
    if not shapes or not cell:
        return shapes
    angle = rng.uniform(0, 2 * np.pi)
    towards = np.array([np.cos(angle), np.sin(angle)])
    edge = max(float((shape.points @ towards).max()) for shape in cell)
    own = min(float((shape.points @ towards).min()) for shape in shapes)
    return [shape.moved(towards * (edge - own + rng.uniform(1, 8) * _UNIT)) for shape in shapes]


def _look(look: str, rng: np.random.Generator) -> str:
    """The stain, drawn where the setting leaves it open."""
    if look == MIXED:
        return str(rng.choice(CLINICAL_LOOKS, p=(0.5, 0.25, 0.25)))
    if look == "fluorescence":
        return str(rng.choice(CLINICAL_LOOKS[1:]))
    return look


def _count(settings: MetaphaseSettings, typical: float | None, rng: np.random.Generator) -> int:
    """The number of chromosomes: 46 in most cells, unless given."""
    if settings.count_range is not None:
        return int(rng.integers(settings.count_range[0], settings.count_range[1] + 1))
    usual = int(rng.choice([46, 45, 47, 44, 48], p=(0.86, 0.06, 0.05, 0.02, 0.01)))
    if settings.size is None or typical is None:
        return usual
    room = default_count(settings.image_size, typical)
    return usual if room >= 46 else room


def _framed(
    shapes: list[Shape],
    own: int,
    settings: MetaphaseSettings,
    typical: float | None,
    look: str,
    rng: np.random.Generator,
) -> tuple[list[Shape], float, tuple[int, int]]:
    """Scale a cell to its image and put it there.

    Args:
        shapes: The chromosomes around the origin, `_UNIT` wide.
        own: Number of those, from the first, that belong to the cell; the others lie where they happen to.
        settings: They may give the size of the image.
        typical: Typical width of a chromosome, pixels; None to derive it from a size that is drawn.
        look: G-bands are often cut out around the cell.
        rng: Source of randomness.

    Returns:
        The shapes in pixels of the image, the width of a chromosome there, and the image's ``(H, W)``.
    """
    points = np.concatenate([shape.points for shape in shapes[:own]]) if own else np.zeros((1, 2))
    low, high = points.min(axis=0) - _UNIT / 2, points.max(axis=0) + _UNIT / 2
    extent = (high - low) / _UNIT
    tight = rng.random() < (0.6 if look == "gband" else 0.2)
    margins = rng.uniform(0.3, 2.0, (2, 2)) if tight else np.exp(rng.uniform(np.log(0.5), np.log(14.0), (2, 2)))
    if rng.random() < 0.15:
        # The border cuts the cell.
        side = int(rng.integers(2)), int(rng.integers(2))
        margins[side] = -rng.uniform(0.02, 0.3) * extent[side[1]]
    needed = extent + margins.sum(axis=0)
    if settings.size is None:
        longer = float(np.exp(rng.triangular(np.log(_SIDES[0]), np.log(700), np.log(_SIDES[1]))))
        width = longer / float(needed.max()) if typical is None else typical * rng.uniform(0.95, 1.05)
        frame = np.maximum(np.round(needed * width), 64)
    else:
        assert typical is not None
        frame = np.array(settings.size, dtype=np.float64)
        if settings.width is None:
            fitting = float((frame / extent).min())
            typical = float(np.clip(fitting, 0.7 * typical, 1.5 * typical)) * rng.uniform(0.7, 1.0)
        width = typical * rng.uniform(0.95, 1.05)
        slack = frame / width - extent
        margins[0] = np.where(slack > 0, rng.uniform(0, 1, 2) * slack, slack * rng.uniform(0.3, 0.7, 2))
    scale = width / _UNIT
    shift = margins[0] * width - low * scale
    scaled = [
        replace(shape, points=shape.points * scale + shift, half_width=shape.half_width * scale, cap=shape.cap * scale)
        for shape in shapes
    ]
    return scaled, float(width), (int(frame[1]), int(frame[0]))


def _litter(slide: Slide, shapes: list[Shape], look: str, rng: np.random.Generator) -> None:
    """Put everything on the slide that is no chromosome of the cell."""
    height, columns = slide.canvas.shape
    width = slide.width
    points = np.concatenate([shape.points[::8] for shape in shapes]) if shapes else np.zeros((1, 2))
    tree = cKDTree(points)
    room = min(height, columns)

    def level() -> float:
        """Stain of a nucleus."""
        return rng.uniform(0.4, 1.0) if slide.absorbs else float(np.exp(rng.normal(0.1, 0.5)))

    def spot(radius: float, near: float) -> tuple[float, float] | None:
        """A place for a body that stays ``near`` radii away from chromosomes, often at the border."""
        for _ in range(12):
            x, y = rng.uniform(-0.6 * radius, columns + 0.6 * radius), rng.uniform(-0.6 * radius, height + 0.6 * radius)
            if tree.query([x, y])[0] > near * radius + width / 2 and (slide.free(x, y, radius) or rng.random() < 0.02):
                return x, y
        return None

    for _ in range(rng.poisson(rng.choice([0.0, 1.5, 4.0], p=(0.25, 0.5, 0.25)))):
        radius = min(rng.uniform(2.2, 7.5) * width, room / 3.5)
        place = spot(radius, rng.uniform(0.75, 1.15))
        if place is not None:
            slide.nucleus(*place, radius, level(), rng.uniform(0.02, 0.3))
    if rng.random() < 0.15:
        radius = rng.uniform(1.2, 2.6) * width
        place = spot(radius, 1.5)
        if place is not None:
            slide.cluster(*place, radius, 1.3 * level())
    if rng.random() < 0.25:
        radius = rng.uniform(3, 14) * width
        slide.cytoplasm(rng.uniform(0, columns), rng.uniform(0, height), radius, rng.uniform(0.02, 0.1))
    area = height * columns / (45 * width) ** 2
    dirty = rng.choice([0.3, 2.0, 8.0], p=(0.5, 0.35, 0.15)) * (1 if slide.absorbs else 0.35)
    for _ in range(rng.poisson(dirty * area)):
        x, y = rng.uniform(0, columns), rng.uniform(0, height)
        together = int(rng.integers(1, 4)) if rng.random() < 0.8 else int(rng.integers(8, 40))
        slide.flecks(x, y, 0.12 * width * np.sqrt(together), together, rng.uniform(0.4, 1.8))
    if rng.random() < 0.15:
        length = rng.uniform(1.0, 6.0) * width
        slide.shard(
            rng.uniform(0, columns), rng.uniform(0, height), length, rng.uniform(0.6, 2.5) if not slide.absorbs else 1.2
        )
    for _ in range(rng.poisson(1.5 * area) if look == "gband" and rng.random() < 0.5 else 0):
        slide.droplet(
            rng.uniform(0, columns), rng.uniform(0, height), rng.uniform(0.15, 0.7) * width, rng.uniform(0.08, 0.6)
        )
    for _ in range(rng.poisson(2 * area)):
        slide.haze(
            rng.uniform(0, columns), rng.uniform(0, height), rng.uniform(0.3, 1.5) * width, rng.uniform(0.02, 0.12)
        )
