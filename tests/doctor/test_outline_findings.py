"""Faults in the outlines of one image."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt
import pytest

from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import Annotation, tight_patch
from kemr_lightning.doctor.outline_findings import (
    box_pair_findings,
    largest_loop,
    length_and_width,
    outline_findings,
    pair_findings,
    union_mask,
)


def test_a_crossing_outline_and_the_size_of_its_loop() -> None:
    # A bow tie of two triangles, 8 x 4 / 2 each.
    loop = largest_loop(np.array([[0.0, 0], [8, 8], [8, 0], [0, 8]]))
    assert loop is not None
    assert loop[0] == pytest.approx(16)
    assert loop[1] == pytest.approx((4, 4))
    assert largest_loop(np.array([[0.0, 0], [8, 0], [8, 8], [0, 8]])) is None
    # A hole cut in along a seam touches itself and does not cross.
    seam = [[0.0, 0], [9, 0], [9, 9], [0, 9], [0, 0], [3, 3], [3, 6], [6, 6], [6, 3], [3, 3], [0, 0]]
    assert largest_loop(np.array(seam)) is None


@pytest.mark.parametrize("seed", range(5))
def test_crossings_agree_with_a_loop_over_all_pairs_of_sides(seed: int) -> None:
    polygon = np.random.default_rng(seed).uniform(0, 50, (4 + seed, 2))

    def cross(o: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
        return float((a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]))

    sides = list(zip(polygon, np.roll(polygon, -1, axis=0), strict=True))
    crossed = any(
        cross(a, b, c) * cross(a, b, d) < 0 and cross(c, d, a) * cross(c, d, b) < 0 for a, b in sides for c, d in sides
    )
    assert (largest_loop(polygon) is not None) == crossed


def square(x: float, y: float, side: float = 10) -> npt.NDArray[np.float64]:
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], dtype=np.float64)


def patch(x0: int, y0: int, height: int, width: int) -> Patch:
    made = tight_patch(np.ones((height, width), dtype=bool), x0, y0)
    assert made is not None
    return made


def test_outlines_that_cross_themselves_reach_beyond_the_image_or_cover_nothing() -> None:
    bow = np.array([[0.0, 0], [8, 8], [8, 0], [0, 8]])
    annotations = [
        Annotation("sound", polygons=(square(5, 5),)),
        Annotation("bow", polygons=(bow,)),
        Annotation("slip", polygons=(square(31.5, 5),)),  # within the margin that a pointer slips
        Annotation("over", polygons=(square(35, 5),)),
        Annotation("away", polygons=(square(60, 5),)),
        Annotation("speck", polygons=(square(5.1, 5.1, 0.1),)),
        Annotation("box", box=(0, 0, 3, 3)),
    ]
    found = outline_findings("a.png", annotations, (30, 40))
    assert [(f.kind, f.message) for f in found] == [
        ("self_crossing", "bow: a loop of 16 px² at (4, 4)"),
        ("outside", "over reaches 5 px beyond the image of 40x30"),
        ("outside", "away lies wholly beyond the image of 40x30"),
        ("degenerate", "speck covers no pixel"),
    ]
    assert found[1].boxes == ((35, 5, 45, 15),)


def test_doubled_and_nested_masks() -> None:
    patches = [
        patch(0, 0, 20, 20),
        patch(0, 1, 20, 20),
        patch(40, 0, 20, 20),
        patch(45, 5, 6, 6),
        patch(50, 10, 20, 20),
    ]
    found = pair_findings("a.png", patches, ["1", "2", "3", "3", "3"], (60, 90))
    assert [(f.kind, f.message) for f in found] == [
        ("same_chromosome", "1 and 2: two outlines with mask IoU 0.90"),
        ("nested", "3 of 36 px lies to 100% inside 3 of 400 px"),
    ]
    assert found[1].boxes == ((45, 5, 51, 11), (40, 0, 60, 20))


def test_boxes_that_occur_twice() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [0, 0, 10, 9.5], [0, 0, 10, 8]])
    found = box_pair_findings("a.png", boxes, ["1", "1", "2"])
    assert [f.message for f in found] == ["1 and 1: two boxes with IoU 0.95"]


def test_length_and_width_of_a_rotated_rod() -> None:
    assert length_and_width(patch(3, 4, 12, 5)) == pytest.approx((12, 5))
    rows, columns = np.mgrid[:80, :80] - 39.5
    along, across = (rows + columns) / 2**0.5, (rows - columns) / 2**0.5
    turned = tight_patch((abs(along) <= 25) & (abs(across) <= 6), 0, 0)
    assert turned is not None
    assert length_and_width(turned) == pytest.approx((50, 12), abs=1.5)


def test_the_union_of_masks() -> None:
    mask = union_mask([patch(0, 0, 2, 2), patch(1, 1, 2, 2)], (4, 5))
    assert mask.astype(int).tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]


def _largest_by_force(polygon: np.ndarray) -> float:
    """The smaller of the two loops of each crossing, by a loop over all pairs of sides."""

    def area(points: list[np.ndarray]) -> float:
        return (
            abs(sum(float(p[0] * q[1] - p[1] * q[0]) for p, q in zip(points, points[1:] + points[:1], strict=True))) / 2
        )

    worst, count = 0.0, len(polygon)
    for i in range(count):
        for j in range(i + 2, count):
            a, b, c, d = polygon[i], polygon[i + 1], polygon[j], polygon[(j + 1) % count]
            matrix = np.stack([b - a, c - d], axis=1)
            if abs(np.linalg.det(matrix)) < 1e-12:
                continue
            s, t = np.linalg.solve(matrix, c - a)
            if 0 < s < 1 and 0 < t < 1:
                where = a + s * (b - a)
                inner = area([where, *polygon[i + 1 : j + 1]])
                worst = max(worst, min(inner, area([where, *polygon[j + 1 :], *polygon[: i + 1]])))
    return worst


@pytest.mark.parametrize("seed", range(6))
def test_the_largest_loop_is_that_of_all_pairs_of_sides(seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygon = rng.uniform(0, 50, (5 + 3 * seed, 2))
    if seed % 2:  # an outline drawn by an unsteady hand
        angles = np.sort(rng.uniform(0, 2 * np.pi, 40))
        polygon = 1000 + np.stack([30 * np.cos(angles), 9 * np.sin(angles)], axis=1) + rng.normal(0, 2, (40, 2))
    loop = largest_loop(polygon)
    assert (0.0 if loop is None else loop[0]) == pytest.approx(_largest_by_force(polygon), abs=1e-6)


def test_outlines_of_many_corners_take_no_time() -> None:
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 50_000, endpoint=False)
    ring = 500 * np.stack([1 + np.cos(angles), 1 + np.sin(angles)], axis=1)
    side = np.linspace(0, 100, 10_000, endpoint=False)
    corners = [[side, 0 * side], [0 * side + 100, side], [100 - side, 0 * side + 100], [0 * side, 100 - side]]
    started = time.process_time()
    assert largest_loop(ring) is None
    assert largest_loop(np.concatenate([np.stack(part, axis=1) for part in corners])) is None  # type: ignore[arg-type]
    for count in (1000, 3000, 30_000):
        loop = largest_loop(rng.uniform(0, 1000, (count, 2)))
        assert loop is not None
        assert loop[0] > 1e5
    assert time.process_time() - started < 8  # about 1.5 on a quiet core
