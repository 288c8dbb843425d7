"""Masks to polygons and, by pycocotools, back."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from kemr_lightning.data.outline import corners_of, join_holes, mask_polygons, pixel_edges
from tests.data.helpers import blob, iou


def back(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    if not polygons:
        return np.zeros(size, dtype=bool)
    rles = coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *size)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)


@pytest.mark.parametrize("seed", range(60))
def test_random_masks_come_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
    mask = blob(rng, size, smooth=float(rng.choice([0.0, 0.5, 1.0, 2.0])), level=float(rng.choice([0.45, 0.5, 0.55])))
    assert np.array_equal(back(mask_polygons(mask, min_iou=1.0), size), mask)
    assert iou(back(mask_polygons(mask), size), mask) >= 0.99


def test_single_pixel_is_its_square() -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[2, 3] = True
    (polygon,) = mask_polygons(mask, min_iou=1.0)
    assert sorted(polygon.tolist()) == [[3, 2], [3, 3], [4, 2], [4, 3]]


def test_parts_touching_at_a_corner_are_one() -> None:
    mask = np.eye(3, dtype=bool)
    assert len(mask_polygons(mask)) == 1
    assert len(pixel_edges(mask)) == 1


def test_parts_and_holes_are_counted() -> None:
    mask = np.zeros((12, 30), dtype=bool)
    mask[1:9, 1:9] = True
    mask[3:5, 3:5] = False
    mask[6:8, 6:8] = False
    mask[2:6, 15:28] = True
    assert len(mask_polygons(mask)) == 2
    assert len(pixel_edges(mask[:, :10])) == 3
    assert np.array_equal(back(mask_polygons(mask, 1.0), mask.shape), mask)


def test_empty() -> None:
    assert mask_polygons(np.zeros((3, 3), dtype=bool)) == []


def test_smooth_shapes_need_few_corners() -> None:
    rows, columns = np.mgrid[:80, :80]
    disc = (rows - 40) ** 2 + (columns - 40) ** 2 < 30**2
    (polygon,) = mask_polygons(disc)
    assert len(polygon) < 60
    assert iou(back([polygon], disc.shape), disc) >= 0.99


def test_pixel_edges_by_hand() -> None:
    ring = np.ones((3, 3), dtype=bool)
    ring[1, 1] = False
    outer, hole = pixel_edges(ring)
    assert len(outer) == 12
    assert sorted(corners_of(outer).tolist()) == [[0, 0], [0, 3], [3, 0], [3, 3]]
    assert sorted(hole.tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]
    # The mask lies on the right-hand side (y points down): the signed area is positive, that of holes negative.
    assert signed_area(outer) == 9
    assert signed_area(hole) == -1


def signed_area(loop: np.ndarray) -> float:
    following = np.roll(loop, -1, axis=0)
    return float((loop[:, 0] * following[:, 1] - loop[:, 1] * following[:, 0]).sum() / 2)


def test_holes_are_joined_by_a_seam_from_the_nearest_corner() -> None:
    outer = np.array([[0.0, 0.0], [9.0, 0.0], [9.0, 9.0], [0.0, 9.0]])
    hole = np.array([[2.0, 3.0], [2.0, 6.0], [6.0, 6.0], [6.0, 3.0]])
    joined = join_holes(outer, [hole])
    assert joined.tolist() == [
        *[[0, 0], [2, 3], [2, 6], [6, 6], [6, 3], [2, 3], [0, 0]],
        *[[9, 0], [9, 9], [0, 9]],
    ]
    assert abs(signed_area(joined)) == 81 - 12
    assert join_holes(outer, []) is outer
