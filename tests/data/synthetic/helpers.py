"""Shapes and digests for the tests of synthetic metaphases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

from kemr_lightning.core.instances import Sample
from kemr_lightning.data.synthetic.settings import MetaphaseSettings
from kemr_lightning.data.synthetic.shape import Footprint, Shape, footprint

SMALL = MetaphaseSettings((160, 128))


def rod(start: tuple[float, float], end: tuple[float, float], half_width: float, cap: float = 1e-6) -> Shape:
    """A straight chromosome with (nearly) square ends."""
    points = np.linspace(start, end, 81)
    return Shape(points, np.full(81, half_width), cap)


def drawn(shape: Shape, size: tuple[int, int]) -> Footprint:
    where = footprint(shape, size)
    assert where is not None
    return where


def full(where: Footprint, size: tuple[int, int]) -> np.ndarray:
    """Coverage on the whole image."""
    rows, columns = where.coverage.shape
    canvas = np.zeros(size)
    canvas[where.y0 : where.y0 + rows, where.x0 : where.x0 + columns] = where.coverage
    return canvas


def digest(samples: Iterable[Sample]) -> str:
    """SHA-256 of the pixels, boxes and masks."""
    hasher = hashlib.sha256()
    for sample in samples:
        assert sample.instances is not None
        assert sample.instances.patches is not None
        hasher.update(sample.image.numpy().tobytes())
        hasher.update(sample.instances.boxes.numpy().tobytes())
        for patch in sample.instances.patches:
            hasher.update(patch.values.numpy().tobytes())
    return hasher.hexdigest()
