"""Affine maps of pixels, outlines and bitmaps against hand-worked cases and each other; fitting into a frame."""

import numpy as np
import pytest
import torch
from PIL import Image

from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import polygon_area, rasterise
from kemr_lightning.data.warp import (
    background_level,
    clip_polygon,
    resize_pixels,
    warp_image,
    warp_patch,
    warp_polygon,
)
from tests.data.helpers import frame, iou

SIZE = (120, 160)
SYMMETRIES = [
    np.array(m, dtype=float) for m in ([[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, 1]], [[0, 1], [1, 0]])
]


@pytest.mark.parametrize("linear", SYMMETRIES)
def test_turns_and_flips_of_images_are_exact(linear: np.ndarray) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 50), dtype=np.uint8)
    corner = linear @ [50, 30]
    affine = np.concatenate([linear, np.maximum(-corner, 0)[:, None]], axis=1)
    size = tuple(np.abs(corner).astype(int)[::-1].tolist())
    expected = {0: image, 1: np.rot90(image), 2: np.fliplr(image), 3: image.T}[
        next(i for i, m in enumerate(SYMMETRIES) if np.array_equal(m, linear))
    ]
    assert np.array_equal(warp_image(image, affine, size, 0), expected)


def test_clip_polygon_equals_the_raster_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        polygon = np.round(rng.uniform(-20, 60, (int(rng.integers(3, 7)), 2)))
        clipped = clip_polygon(polygon, (40, 40))
        one, two = frame(rasterise([polygon], (40, 40)), (40, 40)), frame(rasterise([clipped], (40, 40)), (40, 40))
        assert (one ^ two).sum() <= 12  # slanted edges are redrawn between new corners
        if len(clipped):
            assert clipped.min() >= 0
            assert clipped.max() <= 40


def test_warps_agree_with_each_other() -> None:
    affine = np.array([[0.9, -0.4, 60.0], [0.4, 0.9, -10.0]])
    outline = np.array([[30.0, 20.0], [90.0, 30.0], [80.0, 60.0], [35.0, 50.0]])
    patch = rasterise([outline], SIZE)
    assert patch is not None
    by_bitmap = frame(warp_patch(patch, affine, SIZE), SIZE)
    by_outline = frame(rasterise([warp_polygon(outline, affine)], SIZE), SIZE)
    by_image = warp_image(frame(patch, SIZE).astype(np.uint8) * 255, affine, SIZE, 0) >= 128
    assert iou(by_bitmap, by_outline) > 0.97
    assert np.array_equal(by_bitmap, by_image)
    away = affine.copy()
    away[:, 2] += 1000
    assert warp_patch(patch, away, SIZE) is None


def test_bilinear_shift_by_hand() -> None:
    image = np.array([[0, 100, 200, 40]], dtype=np.float32)
    # A shift of a quarter pixel to the right: each pixel takes a quarter of its left neighbour, the first of the fill.
    moved = warp_image(image, np.array([[1.0, 0, 0.25], [0, 1, 0]]), (1, 4), 8)
    np.testing.assert_allclose(moved, [[2, 75, 175, 80]], atol=1e-4)
    assert moved.dtype == np.float32


def test_whole_shifts_copy_pixels_and_fill_the_rest() -> None:
    image = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
    moved = warp_image(image, np.array([[1.0, 0, 2], [0, 1, -1]]), (3, 4), 99)
    assert moved.tolist() == [[99, 99, 5, 6], [99, 99, 9, 10], [99, 99, 99, 99]]
    bitmap = warp_patch(
        Patch(1, 0, torch.tensor([[True, False], [True, True]])), np.array([[1.0, 0, 2], [0, 1, -1]]), (3, 4)
    )
    assert bitmap is not None
    # Its second row alone is left, and of that what lies in four columns.
    assert bitmap.window == (3, 0, 4, 1)


def test_polygons_are_mapped_corner_by_corner() -> None:
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    moved = warp_polygon(square, np.array([[0.0, -3.0, 10.0], [1.0, 0.0, 5.0]]))
    assert moved.tolist() == [[10, 5], [10, 7], [4, 7], [4, 5]]


def test_cut_polygons_by_hand() -> None:
    inside = np.array([[1.0, 1.0], [4.0, 1.0], [4.0, 4.0]])
    assert clip_polygon(inside, (10, 10)) is inside
    triangle = np.array([[-5.0, 5.0], [5.0, 0.0], [5.0, 10.0]])
    clipped = clip_polygon(triangle, (20, 20))
    # Half of its height lies left of the image: a quarter of its area, 50, is cut away.
    assert polygon_area(clipped) == pytest.approx(37.5)
    assert sorted(map(tuple, clipped.tolist())) == [(0, 2.5), (0, 7.5), (5, 0), (5, 10)]
    assert len(clip_polygon(triangle - 50, (20, 20))) == 0


def test_the_background_is_the_most_frequent_level() -> None:
    image = np.full((70, 70), 120, dtype=np.uint8)
    image[:30] = np.random.default_rng(0).integers(0, 256, (30, 70))
    assert abs(background_level(image) - 120) <= 2
    # Two levels side by side outweigh a single one that is more frequent than either.
    levels = np.array([40] * 5 + [90] * 4 + [91] * 4, dtype=np.uint8)
    assert background_level(np.repeat(levels, 7)[None]) in range(89, 93)


def test_an_image_of_the_wanted_size_is_returned_itself() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
    assert resize_pixels(image, (60, 80)) is image
    resized = resize_pixels(image, (33, 41))
    assert resized.shape == (33, 41)
    assert resized.dtype == np.uint8


def test_shrinking_equals_pillow_s_bicubic() -> None:
    coarse = np.random.default_rng(0).integers(0, 256, (10, 15), dtype=np.uint8)
    image = np.kron(coarse, np.ones((8, 8), dtype=np.uint8))
    # In floats: with bytes, Pillow rounds and clips between the two directions.
    expected = np.asarray(Image.fromarray(image.astype(np.float32)).resize((60, 40), Image.Resampling.BICUBIC))
    assert np.abs(resize_pixels(image, (40, 60)) - expected.clip(0, 255)).max() < 0.51
