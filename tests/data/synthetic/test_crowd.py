"""How chromosomes of a clinical cell lie together."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from kemr_lightning.data.synthetic.crowd import Crowding, crowd
from kemr_lightning.data.synthetic.karyotype import CHROMOSOME_NAMES, ideogram
from kemr_lightning.data.synthetic.layout import Form, chromosome_shape
from kemr_lightning.data.synthetic.shape import Shape

WIDTH = 16.0
FORM = Form(condensed=0.5, width=WIDTH, pixels_per_megabase=0.6, bend=0.6, constriction=0.2, notch=0.0)


def laid(crowding: Crowding, seed: int = 0) -> tuple[list[Shape], list[Shape]]:
    rng = np.random.default_rng(seed)
    shapes = [chromosome_shape(ideogram(name), FORM, rng) for name in CHROMOSOME_NAMES]
    return shapes, crowd(shapes, WIDTH, crowding, rng)


def gaps(shapes: list[Shape]) -> np.ndarray:
    """Distance of every pair's outlines, in widths; about -1 where their axes cross."""
    return np.array(
        [cdist(one.points[3:-3], two.points[3:-3]).min() / WIDTH - 1 for one, two in combinations(shapes, 2)]
    )


def test_shapes_are_turned_and_moved_only() -> None:
    before, after = laid(Crowding(0.3, 0.3, 0.2, 0.3))
    assert len(before) == len(after)
    for one, two in zip(before, after, strict=True):
        assert two.length == pytest.approx(one.length)
        chord = np.hypot(*(one.points[-1] - one.points[0]))
        assert np.hypot(*(two.points[-1] - two.points[0])) == pytest.approx(chord)
        np.testing.assert_array_equal(one.half_width, two.half_width)


def test_free_chromosomes_stay_apart() -> None:
    assert (gaps(laid(Crowding(0, 0, 0, 0.12))[1]) > -0.25).all()


def test_crossing_chromosomes_lie_across_others_but_rarely_in_piles() -> None:
    crossed = [gaps(laid(Crowding(1, 0, 0, 0.2), seed)[1]) < -0.6 for seed in range(4)]
    assert np.mean([found.sum() for found in crossed]) > 12
    none = [gaps(laid(Crowding(0, 0, 0, 0.12), seed)[1]) < -0.6 for seed in range(4)]
    assert np.sum(none) == 0


@pytest.mark.parametrize("parallel", [False, True])
def test_touching_chromosomes_lie_against_others(parallel: bool) -> None:
    crowding = Crowding(0, 0, 1, 0.2) if parallel else Crowding(0, 1, 0, 0.2)
    distances = gaps(laid(crowding)[1])
    close = np.abs(distances) < 0.3
    assert close.sum() >= 14
    assert (distances > -0.5).all()
    if parallel:
        return
    apart = gaps(laid(Crowding(0, 0, 0, 0.12))[1])
    assert (np.abs(apart) < 0.05).sum() < (np.abs(distances) < 0.05).sum()


def test_occupied_sets_the_size_and_hollow_empties_the_middle() -> None:
    def extent(shapes: list[Shape]) -> float:
        return float(np.ptp(np.concatenate([shape.points for shape in shapes]), axis=0).mean())

    assert extent(laid(Crowding(0, 0, 0, 0.08))[1]) > 1.3 * extent(laid(Crowding(0, 0, 0, 0.3))[1])
    middles = np.array([shape.points.mean(axis=0) for shape in laid(Crowding(0, 0, 0, 0.2, 0.0, 0.6))[1]])
    distances = np.hypot(*middles.T)
    assert np.percentile(distances, 10) > 0.35 * distances.max()


def test_no_chromosomes_and_one() -> None:
    rng = np.random.default_rng(0)
    assert crowd([], WIDTH, Crowding(1, 0, 0, 0.2), rng) == []
    shape = chromosome_shape(ideogram("21"), FORM, rng)
    assert len(crowd([shape], WIDTH, Crowding(1, 0, 0, 0.2), rng)) == 1
