"""Rasterising on windows against pycocotools on full frames, and cases drawn by hand."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import (
    Annotation,
    annotation_patch,
    clip_patch,
    polygon_area,
    rasterise,
    scale_annotation,
    tight_patch,
    to_instances,
    turn_annotation,
    unite,
)
from kemr_lightning.data.labelme import parse_labelme
from tests.data.helpers import frame, iou, real_data


def on_full_frame(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    rles = coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *size)
    return coco_mask.decode(coco_mask.merge(rles)).astype(bool)


@pytest.mark.parametrize("seed", range(200))
def test_equal_to_pycocotools_on_the_full_frame(seed: int) -> None:
    """Also across borders, with ties in the rounding to fifths, and for several parts."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(5, 50)), int(rng.integers(5, 50)))
    polygons = []
    for _ in range(int(rng.integers(1, 4))):
        centre = rng.uniform(-10, 60, 2)
        polygon = centre + rng.normal(0, rng.uniform(1, 15), (int(rng.integers(3, 12)), 2))
        polygons.append(np.round(polygon, int(rng.integers(0, 4))))
    patch = rasterise(polygons, size)
    assert np.array_equal(frame(patch, size), on_full_frame(polygons, size))
    if patch is not None:
        assert patch.values.any(dim=0)[[0, -1]].all()
        assert patch.values.any(dim=1)[[0, -1]].all()


def test_hand_drawn_rectangle() -> None:
    patch = rasterise([np.array([[2.0, 1.0], [5.0, 1.0], [5.0, 3.0], [2.0, 3.0]])], (6, 8))
    assert patch is not None
    assert patch.window == (2, 1, 5, 3)
    assert bool(patch.values.all())


def test_outside_and_empty() -> None:
    away = np.array([[-9.0, -9.0], [-3.0, -9.0], [-3.0, -3.0]])
    assert rasterise([away], (10, 10)) is None
    assert rasterise([away + 100], (10, 10)) is None
    assert rasterise([np.array([[1.0, 1.0], [2.0, 2.0]])], (10, 10)) is None
    assert rasterise([], (10, 10)) is None


def test_a_huge_polygon_costs_its_window_only() -> None:
    huge = np.array([[-50000.0, -50000.0], [50000.0, -50000.0], [50000.0, 50000.0], [-50000.0, 50000.0]])
    patch = rasterise([huge], (7, 9))
    assert patch is not None
    assert patch.area() == 63


def test_area() -> None:
    assert polygon_area(np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 3.0]])) == 6
    assert polygon_area(np.array([[0.0, 0.0], [4.0, 4.0], [2.0, 2.0]])) == 0


def test_union_and_clipping() -> None:
    one = Patch(1, 1, torch.ones((2, 3), dtype=torch.bool))
    two = Patch(3, 2, torch.ones((3, 2), dtype=torch.bool))
    both = unite([one, two])
    assert both is not None
    assert both.window == (1, 1, 5, 5)
    assert np.array_equal(frame(both, (6, 6)), frame(one, (6, 6)) | frame(two, (6, 6)))
    assert unite([]) is None
    half = clip_patch(Patch(-1, -1, torch.ones((3, 3), dtype=torch.bool)), (10, 1))
    assert half is not None
    assert half.window == (0, 0, 1, 2)
    assert clip_patch(one, (1, 1)) is None


def test_an_instance_of_polygon_and_bitmap_is_their_union() -> None:
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    patch = annotation_patch(
        Annotation("a", polygons=(square,), patches=(Patch(4, 0, torch.ones((1, 2), dtype=torch.bool)),)), (4, 6)
    )
    assert patch is not None
    assert patch.window == (0, 0, 6, 2)
    assert patch.area() == 6


def test_to_instances() -> None:
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    annotations = [
        Annotation("b", polygons=(square,)),
        Annotation("unknown", polygons=(square,)),
        Annotation("a", polygons=(square + 100,)),
        Annotation("a", polygons=(square + 3,), score=0.4),
    ]
    instances, positions = to_instances(annotations, {"a": 1, "b": 2}, (10, 10))
    assert positions == [0, 3]
    assert instances.labels.tolist() == [2, 1]
    assert instances.boxes.tolist() == [[0, 0, 2, 2], [3, 3, 5, 5]]
    assert instances.scores.tolist() == [1, 1]
    assert instances.patches is not None


def test_boxes_only_have_no_masks() -> None:
    annotations = [Annotation("a", box=(1.0, 2.0, 30.0, 4.0)), Annotation("a", box=(50.0, 50.0, 60.0, 60.0))]
    instances, positions = to_instances(annotations, {"a": 1}, (10, 20))
    assert positions == [0]
    assert instances.patches is None
    assert instances.boxes.tolist() == [[1, 2, 20, 4]]


@pytest.mark.parametrize("factors", [(2.0, 2.0), (0.5, 0.5), (1.3, 0.8)])
def test_polygon_and_bitmap_scale_alike(factors: tuple[float, float]) -> None:
    outline = np.array([[10.0, 8.0], [40.0, 12.0], [44.0, 30.0], [8.0, 26.0]])
    bitmap = rasterise([outline], (50, 60))
    assert bitmap is not None
    size = (120, 130)
    by_polygon = annotation_patch(scale_annotation(Annotation("a", polygons=(outline,)), factors), size)
    by_bitmap = annotation_patch(scale_annotation(Annotation("a", patches=(bitmap,)), factors), size)
    assert iou(frame(by_polygon, size), frame(by_bitmap, size)) > 0.92


def test_boxes_are_scaled() -> None:
    assert scale_annotation(Annotation("a", box=(2.0, 4.0, 6.0, 8.0)), (2.0, 0.5)).box == (4, 2, 12, 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_annotations_are_rotated_as_their_image_is(orientation: int) -> None:
    """The EXIF standard's eight orientations, by numpy: outline, bitmap and box must follow the pixels."""
    stored = np.zeros((30, 50), dtype=bool)
    stored[4:11, 8:20] = True
    upright = {
        1: stored,
        2: np.fliplr(stored),
        3: np.rot90(stored, 2),
        4: np.flipud(stored),
        5: stored.T,
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).T,
        8: np.rot90(stored, 1),
    }[orientation]
    size = (upright.shape[0], upright.shape[1])
    outline = np.array([[8.0, 4.0], [20.0, 4.0], [20.0, 11.0], [8.0, 11.0]])
    bitmap = tight_patch(stored, 0, 0)
    assert bitmap is not None
    for annotation in (Annotation("a", polygons=(outline,)), Annotation("a", patches=(bitmap,))):
        assert np.array_equal(
            frame(annotation_patch(turn_annotation(annotation, orientation, size), size), size), upright
        )
    box = turn_annotation(Annotation("a", box=(8.0, 4.0, 20.0, 11.0)), orientation, size).box
    rows, columns = np.nonzero(upright)
    assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_bounds_lie_around_all_parts() -> None:
    outline = np.array([[10.5, 8.0], [40.0, 12.0], [44.0, 30.0]])
    bitmap = Patch(2, 20, torch.ones((15, 3), dtype=torch.bool))
    assert Annotation("a", polygons=(outline,), patches=(bitmap,)).bounds() == (2, 8, 44, 35)
    assert Annotation("a", box=(1.0, 2.0, 3.5, 4.0)).bounds() == (1, 2, 3.5, 4)


def test_box_only_annotations_have_nothing_else() -> None:
    box = (0.0, 0.0, 2.0, 2.0)
    assert Annotation("a", box=box).box_only
    assert not Annotation("a", box=box, patches=(Patch(0, 0, torch.ones((1, 1), dtype=torch.bool)),)).box_only
    assert not Annotation("a").box_only


def test_masks_are_cropped_to_their_foreground() -> None:
    mask = np.zeros((6, 8), dtype=bool)
    assert tight_patch(mask, 0, 0) is None
    mask[2, 3] = mask[4, 5] = True
    patch = tight_patch(mask, 10, 20)
    assert patch is not None
    assert patch.window == (13, 22, 16, 25)
    assert patch.values.tolist() == [[True, False, False], [False, False, False], [False, False, True]]


def test_real_polygons_equal_pycocotools() -> None:
    for path in sorted((real_data("bioimlab") / "train").glob("*.json"))[:4]:
        file = parse_labelme(path)
        assert file.image_size is not None
        for annotation in file.annotations:
            expected = on_full_frame(list(annotation.polygons), file.image_size)
            assert np.array_equal(frame(annotation_patch(annotation, file.image_size), file.image_size), expected)
