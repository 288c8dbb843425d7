"""Faults in the outlines of one image."""

from __future__ import annotations

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
