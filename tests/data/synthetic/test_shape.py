"""Outlines and areas of chromosomes against hand-worked cases and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree
from skimage.draw import polygon2mask

from kemr_lightning.data.synthetic.layout import centre_line
from kemr_lightning.data.synthetic.shape import Shape, footprint
from tests.data.synthetic.helpers import drawn, full, rod


def bent(seed: int, notch: tuple[float, float] = (0.0, 0.0)) -> Shape:
    rng = np.random.default_rng(seed)
    points = centre_line(70, 6.5, 1.0, rng)
    s = np.linspace(0, 1, len(points))
    width = 6.5 * (1 - 0.35 * np.exp(-(((s - 0.4) * 70 / 3) ** 2) / 2))
    return Shape(points - points.mean(axis=0) + 50 + rng.random(2), width, 5.0, notch)


def brute_force(shape: Shape, size: tuple[int, int], fine: int = 8) -> np.ndarray:
    """Covered area by the definition: nearest point of a densely interpolated line, at fine x fine points a pixel."""
    arc = np.arange(len(shape.points)) * shape.step
    dense = np.linspace(0, arc[-1], 40 * len(arc))
    line = CubicSpline(arc, shape.points)
    at, direction = line(dense), line(dense, 1)
    grid = (np.arange(size[0] * fine) + 0.5) / fine
    x, y = np.meshgrid((np.arange(size[1] * fine) + 0.5) / fine, grid)
    samples = np.stack([x.ravel(), y.ravel()], axis=1)
    near = ((samples > at.min(axis=0) - 8) & (samples < at.max(axis=0) + 8)).all(axis=1)
    query = samples[near]
    _, nearest = cKDTree(at).query(query, distance_upper_bound=8)
    known = nearest < len(at)
    nearest = np.where(known, nearest, 0)
    delta = query - at[nearest]
    tangent = direction[nearest] / np.linalg.norm(direction[nearest], axis=1)[:, None]
    s = dense[nearest] + (delta * tangent).sum(axis=1)
    t = np.abs(tangent[:, 0] * delta[:, 1] - tangent[:, 1] * delta[:, 0])
    u = np.minimum(t / np.interp(s, arc, shape.half_width), 1)

    def end(position: np.ndarray) -> np.ndarray:
        return 1 - (1 - position**2.6) ** (1 / 2.6)

    inside = known & (t <= np.interp(s, arc, shape.half_width))
    for from_end, notch in ((s, shape.notch[0]), (arc[-1] - s, shape.notch[1])):
        inside &= from_end >= shape.cap * ((1 - notch) * end(u) + notch * end(np.abs(2 * u - 1)))
    everywhere = np.zeros(len(samples), dtype=bool)
    everywhere[near] = inside
    return everywhere.reshape(size[0], fine, size[1], fine).mean(axis=(1, 3))


def test_area_of_a_straight_rod_by_hand() -> None:
    where = drawn(rod((10.25, 20), (50.25, 20), 5), (64, 64))
    canvas = full(where, (64, 64))
    # 40 long and 10 wide; rows 15 to 24 whole, column 10 three quarters, column 50 one quarter.
    assert canvas.sum() == pytest.approx(400, abs=1e-9)
    np.testing.assert_allclose(canvas[15:25, 11:50], 1)
    np.testing.assert_allclose(canvas[15:25, 10], 0.75)
    np.testing.assert_allclose(canvas[15:25, 50], 0.25)
    assert where.mask.sum() == 400


def test_coordinates_of_a_straight_rod_by_hand() -> None:
    shape = rod((10, 20), (50, 20), 5)
    assert shape.length == pytest.approx(40)
    assert shape.step == pytest.approx(0.5)
    where = drawn(shape, (64, 64))
    # The centre of pixel (row 22, column 30) is (30.5, 22.5); y points down.
    assert where.s[22 - where.y0, 30 - where.x0] == pytest.approx(20.5)
    assert where.t[22 - where.y0, 30 - where.x0] == pytest.approx(2.5)
    inside = shape.inside(np.array([-0.1, 0.1, 20.0, 20.0, 40.1]), np.array([0.0, 0.0, -4.9, 5.1, 0.0]))
    assert inside.tolist() == [False, True, True, False, False]
    assert drawn(shape.moved(np.array([3.0, -4.0])), (64, 64)).x0 == where.x0 + 3


def test_a_ring_segment_has_the_area_of_its_closed_form() -> None:
    """A centre line of constant curvature: area = width x length, whatever the curvature (Pappus)."""
    angle = np.linspace(0, np.pi / 2, 80)
    points = 64 + 40 * np.stack([np.cos(angle), np.sin(angle)], axis=1) - 30
    shape = Shape(points, np.full(80, 6.0), 1e-6)
    assert full(drawn(shape, (128, 128)), (128, 128)).sum() == pytest.approx(12 * 40 * np.pi / 2, rel=2e-3)


@pytest.mark.parametrize(("seed", "notch"), [(0, (0.0, 0.0)), (1, (0.8, 0.3)), (2, (0.0, 1.0)), (5, (0.0, 0.0))])
def test_masks_equal_brute_force(seed: int, notch: tuple[float, float]) -> None:
    shape = bent(seed, notch)
    coverage = full(drawn(shape, (100, 100)), (100, 100))
    expected = brute_force(shape, (100, 100))
    assert np.abs(coverage - expected).max() < 0.12
    assert np.abs(coverage - expected)[(expected > 0) & (expected < 1)].mean() < 0.02
    assert coverage.sum() == pytest.approx(expected.sum(), rel=2e-3)
    clear = np.abs(expected - 0.5) > 0.08
    np.testing.assert_array_equal((coverage >= 0.5)[clear], (expected >= 0.5)[clear])


@pytest.mark.parametrize("seed", range(4))
def test_outline_encloses_the_mask(seed: int) -> None:
    shape = bent(seed, (0.5, 0.0))
    fine = polygon2mask((800, 800), shape.outline()[:, ::-1] * 8 - 0.5)
    from_outline = fine.reshape(100, 8, 100, 8).mean(axis=(1, 3))
    coverage = full(drawn(shape, (100, 100)), (100, 100))
    assert np.abs(from_outline - coverage)[(coverage > 0) & (coverage < 1)].mean() < 0.03
    one, other = from_outline >= 0.5, coverage >= 0.5
    assert (one & other).sum() / (one | other).sum() > 0.985


def test_shapes_beyond_the_border_are_cut_or_absent() -> None:
    where = drawn(rod((-20, 20), (20, 20), 5), (64, 64))
    assert where.x0 == 0
    assert full(where, (64, 64)).sum() == pytest.approx(200, abs=1e-9)
    assert footprint(rod((-50, -50), (-20, -20), 5), (64, 64)) is None
