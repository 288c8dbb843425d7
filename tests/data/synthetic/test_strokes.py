"""Painted chromosomes, compared with the exact rasteriser of `shape`."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.data.synthetic.karyotype import ideogram
from kemr_lightning.data.synthetic.layout import Form, chromosome_shape
from kemr_lightning.data.synthetic.shape import Footprint, Shape, footprint
from kemr_lightning.data.synthetic.strokes import Stain, stroke
from tests.data.synthetic.helpers import drawn, full, rod

SIZE = (200, 200)
FORM = Form(condensed=0.5, width=14.0, pixels_per_megabase=0.5, bend=1.2, constriction=0.3, notch=0.6)


def even(level: float = 1.0) -> Stain:
    """The same stain everywhere."""
    return Stain(np.full((2, 64), level, np.float32), 0.0, 0.0, np.zeros(64, np.float32), 0.2, 0.0)


def painted(shape: Shape, stain: Stain, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, Footprint | None]:
    canvas = np.zeros(size, np.float32)
    return canvas, stroke(shape, stain, np.zeros(size, np.float32), canvas, size)


@pytest.mark.parametrize("name", ["1", "9", "14", "21"])
def test_masks_are_those_of_the_exact_rasteriser(name: str) -> None:
    for seed in range(3):
        shape = chromosome_shape(ideogram(name), FORM, np.random.default_rng(seed)).moved(np.array([100.0, 100.0]))
        canvas, where = painted(shape, even())
        exact = footprint(shape, SIZE)
        assert where is not None
        assert exact is not None
        expected = full(exact, SIZE)
        np.testing.assert_allclose(canvas, full(where, SIZE), atol=1e-6)
        assert np.abs(canvas - expected).mean() < 0.02 * expected.mean()
        both, either = (canvas >= 0.5) & (expected >= 0.5), (canvas >= 0.5) | (expected >= 0.5)
        assert both.sum() / either.sum() > 0.98


def test_coordinates_along_and_across_a_straight_chromosome() -> None:
    canvas, where = painted(rod((40, 60), (140, 60), 6), even())
    assert where is not None
    assert canvas.sum() == pytest.approx(100 * 12, rel=0.01)
    rows, columns = np.nonzero(where.mask)
    np.testing.assert_allclose(where.s[rows, columns], columns + where.x0 + 0.5 - 40, atol=1e-3)
    np.testing.assert_allclose(where.t[rows, columns], rows + where.y0 + 0.5 - 60, atol=1e-3)


def test_stain_follows_the_profile_groove_and_taper() -> None:
    shape = rod((20, 60), (148, 60), 8)
    profile = np.tile(np.repeat([0.2, 0.8], 32), (2, 1)).astype(np.float32)
    canvas, _ = painted(shape, even()._replace(profile=profile))
    assert canvas[60, 40] == pytest.approx(0.2, abs=1e-3)
    assert canvas[60, 130] == pytest.approx(0.8, abs=1e-3)
    grooved, _ = painted(shape, even()._replace(groove=np.full(64, 0.5, np.float32), taper=0.4))
    # Half a pixel from the axis, an eighth of the groove's width of 1.6 px at 0.2 half-widths.
    assert grooved[60, 84] == pytest.approx(
        (1 - 0.5 * np.exp(-0.5 * (0.0625 / 0.2) ** 2)) * (1 - 0.4 * 0.0625**2), abs=1e-3
    )
    assert grooved[66, 84] == pytest.approx(1 - 0.4 * 0.8125**2, abs=0.01)
    slanted, _ = painted(shape, even()._replace(profile=profile, slant=20.0))
    edges = [int(np.argmax(row > 0.5)) for row in (slanted[54], slanted[65])]
    assert edges[0] - edges[1] == pytest.approx(20 * 11 / 8 / 2, abs=1.5)


def test_stain_of_crossing_chromosomes_adds() -> None:
    canvas = np.zeros(SIZE, np.float32)
    for ends in (((50, 100), (150, 100)), ((100, 50), (100, 150))):
        stroke(rod(*ends, 6), even(0.7), np.zeros(SIZE, np.float32), canvas, SIZE)
    assert canvas[100, 100] == pytest.approx(1.4)
    assert canvas[100, 60] == pytest.approx(0.7)


def test_ragged_bands_are_shifted_where_the_field_says() -> None:
    profile = np.tile(np.repeat([0.2, 0.8], 32), (2, 1)).astype(np.float32)
    ragged = np.zeros((100, 100), np.float32)
    ragged[30:] = 10.0  # from row 60 on
    canvas = np.zeros(SIZE, np.float32)
    stroke(rod((20, 60), (148, 60), 8), even()._replace(profile=profile), ragged, canvas, SIZE)
    edges = [int(np.argmax(row > 0.5)) for row in (canvas[56], canvas[64])]
    assert edges[0] - edges[1] == pytest.approx(10, abs=1)


def test_what_the_border_cuts_and_what_lies_outside() -> None:
    shape = rod((-50, 20), (50, 20), 6)
    canvas, where = painted(shape, even())
    assert where is not None
    assert where.x0 == 0
    np.testing.assert_allclose(canvas, full(drawn(shape, SIZE), SIZE), atol=0.1)
    canvas, where = painted(rod((-80, 20), (-20, 20), 6), even())
    assert where is None
    assert not canvas.any()
