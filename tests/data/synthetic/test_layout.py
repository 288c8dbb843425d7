"""Bent centre lines and the arrangement on the slide, measured on the masks that come of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from kemr_lightning.data.synthetic.karyotype import ideogram
from kemr_lightning.data.synthetic.layout import Spread, arrange, centre_line, chromosome_shape
from kemr_lightning.data.synthetic.shape import Shape
from tests.data.synthetic.helpers import drawn, full, rod

SIZE = (240, 320)
FREE = Spread(
    condensed=0.5,
    width=10,
    pixels_per_megabase=0.3,
    bend=0.8,
    constriction=0.25,
    notch=0.0,
    crossing=0.0,
    touching=0.0,
    cut=False,
    density=6.0,
)


def arranged(spread: Spread, seed: int, shapes: list[Shape], obstacles: list[tuple[float, float, float]]) -> np.ndarray:
    """Masks ``(N, H, W)`` of the shapes on the image."""
    placed = arrange(shapes, obstacles, spread, SIZE, np.random.default_rng(seed))
    for before, after in zip(shapes, placed, strict=True):
        moved = after.points - before.points
        np.testing.assert_allclose(moved, np.broadcast_to(moved[0], moved.shape))
    return np.stack([full(drawn(shape, SIZE), SIZE) >= 0.5 for shape in placed])


def rods(count: int) -> list[Shape]:
    """Rods around the origin, 40 long and 10 wide, of several directions."""
    shapes = []
    for number in range(count):
        angle = np.pi * number / count
        end = 20 * np.array([np.cos(angle), np.sin(angle)])
        shapes.append(rod(tuple(-end), tuple(end), 5, cap=4))
    return shapes


def test_centre_lines_keep_length_and_do_not_kink() -> None:
    for seed in range(30):
        points = centre_line(90, 6, 1.2, np.random.default_rng(seed))
        steps = np.hypot(*np.diff(points, axis=0).T)
        assert steps.sum() == pytest.approx(90, abs=1e-9)
        assert steps.max() < 1 + 1e-9
        heading = np.unwrap(np.arctan2(*np.diff(points, axis=0).T[::-1]))
        assert np.abs(np.diff(heading) / steps[1:]).max() < 1 / 6


def test_centre_lines_without_bending_are_straight() -> None:
    points = centre_line(90, 6, 0.0, np.random.default_rng(0))
    assert points[0].tolist() == [0, 0]
    assert np.hypot(*points[-1]) == pytest.approx(90)


def test_chromosomes_have_the_length_of_their_dna_and_a_waist_at_the_centromere() -> None:
    for name in ("1", "8", "14", "X"):
        bands = ideogram(name)
        for seed in range(5):
            shape = chromosome_shape(bands, replace(FREE, constriction=0.4), np.random.default_rng(seed))
            assert shape.length == pytest.approx(bands.length * 0.3, rel=0.2)
            np.testing.assert_allclose(shape.points.mean(axis=0), 0, atol=1e-9)
            at = np.linspace(0, 1, len(shape.points))
            waist = shape.half_width[np.abs(at - bands.centromere) < 0.02].min()
            assert waist < 0.85 * shape.half_width[at > 0.6].mean()
    # Chromosome 21 would be 14 pixels long and 30 wide: it is kept longer than wide, by 15 %.
    short = chromosome_shape(ideogram("21"), replace(FREE, width=30.0), np.random.default_rng(0))
    assert short.length == pytest.approx(34.5)


@pytest.mark.parametrize("seed", range(4))
def test_free_chromosomes_lie_apart_inside_the_image_and_off_obstacles(seed: int) -> None:
    nucleus = (160.0, 120.0, 40.0)
    masks = arranged(FREE, seed, rods(9), [nucleus])
    assert masks.sum(axis=0).max() == 1
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    assert not masks[:, np.hypot(columns - nucleus[0], rows - nucleus[1]) < nucleus[2]].any()
    # Nothing is cut at the border: a rod has 400 pixels less its rounded corners.
    assert masks.sum(axis=(1, 2)).min() > 375
    assert not masks[:, [0, -1]].any()
    assert not masks[:, :, [0, -1]].any()


@pytest.mark.parametrize("seed", range(4))
def test_crossing_chromosomes_share_pixels(seed: int) -> None:
    first, second = arranged(replace(FREE, crossing=1.0), seed, rods(2), [])
    # Two rods 10 wide cross at a right angle: 100 pixels.
    assert 50 <= (first & second).sum() <= 160


@pytest.mark.parametrize("seed", range(4))
def test_touching_chromosomes_meet_by_their_width(seed: int) -> None:
    placed = arrange(rods(2), [], replace(FREE, touching=1.0), SIZE, np.random.default_rng(seed))
    # Where centre lines come as near as the width of 10, outlines touch; up to a fifth of it they are pushed together.
    assert 7.5 < cdist(placed[0].points, placed[1].points).min() < 11.5
