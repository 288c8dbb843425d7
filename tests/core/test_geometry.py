"""Grids and pixels: hand cases, independent interpolation, the round trip."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import map_coordinates

from kemr_lightning.core.geometry import (
    fitted_size,
    grow_boxes,
    mask_targets,
    paste_grid,
    patch_iou,
    place_detections,
    region_window,
    resize_image,
)
from kemr_lightning.core.instances import Detections, Instances, Patch


def full(patch: Patch, size: tuple[int, int]) -> np.ndarray:
    """``(H, W)`` values of a patch on its image."""
    frame = np.zeros(size, dtype=np.float64)
    x0, y0, x1, y1 = patch.window
    frame[y0:y1, x0:x1] = patch.values.double().numpy()
    return frame


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def round_trip(instances: Instances, regions: torch.Tensor, size: int = 28) -> list[float]:
    """IoU of each mask with itself after grid and paste."""
    grids = mask_targets(instances.patches, torch.arange(len(instances)), regions, size)
    result = []
    for patch, grid, region in zip(instances.patches, grids, regions.tolist(), strict=True):
        back = paste_grid(grid, region, instances.image_size)
        result.append(iou(full(patch, instances.image_size) > 0.5, full(back, instances.image_size) >= 0.5))
    return result


def test_grow_boxes():
    grown = grow_boxes(torch.tensor([[10.0, 20, 30, 60]]), 0.2, 1.0)
    assert grown.tolist() == [[7, 15, 33, 65]]


def test_targets_of_whole_pixel_cells_are_the_pixels():
    mask = torch.rand(6, 6) > 0.5
    (target,) = mask_targets([Patch(3, 2, mask)], torch.tensor([0]), torch.tensor([[3.0, 2, 9, 8]]), 6)
    assert torch.equal(target, mask.float())


def test_targets_average_the_pixels_of_a_cell():
    # Cells of 2x2 pixels: the fraction of each that is covered.
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.bool)
    (target,) = mask_targets([Patch(5, 7, mask)], torch.tensor([0]), torch.tensor([[5.0, 7, 9, 11]]), 2)
    assert target.tolist() == [[0.75, 0], [0, 1]]


def test_targets_see_nothing_outside_the_patch():
    square = Patch(10, 10, torch.ones(4, 4, dtype=torch.bool))
    (target,) = mask_targets([square], torch.tensor([0]), torch.tensor([[6.0, 6, 18, 18]]), 12)
    expected = torch.zeros(12, 12)
    expected[4:8, 4:8] = 1
    assert torch.equal(target, expected)


def test_targets_of_no_regions():
    assert mask_targets([], torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), 28).shape == (0, 28, 28)


def test_targets_choose_their_mask():
    one, two = Patch(0, 0, torch.ones(2, 2)), Patch(0, 0, torch.zeros(3, 5))
    targets = mask_targets([one, two], torch.tensor([1, 0, 1]), torch.tensor([[0.5, 0.5, 1.5, 1.5]] * 3), 1)
    assert targets.flatten().tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("region", "window"),
    [
        ((2.0, 3, 5, 7), (2, 3, 5, 7)),
        ((2.2, 3.9, 4.1, 6.5), (2, 3, 5, 7)),
        ((-3.5, -2, 4, 200), (0, 0, 4, 50)),
        ((40.0, 50, 40, 50), (39, 49, 40, 50)),  # at least one pixel
        ((60.0, 60, 70, 70), (39, 49, 40, 50)),
    ],
)
def test_window(region, window):
    assert region_window(region, (50, 40)) == window


@pytest.mark.parametrize(("width", "height"), [(56, 28), (13, 41), (28, 28), (7, 90)])
def test_paste_on_whole_pixels_is_opencv_s_resize(width, height):
    grid = torch.rand(28, 28)
    patch = paste_grid(grid, (4, 6, 4 + width, 6 + height), (100, 80))
    assert patch.window == (4, 6, 4 + width, 6 + height)
    expected = cv2.resize(grid.numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(patch.values.numpy(), expected, atol=1e-5)


def test_paste_anywhere_is_scipy_s_interpolation():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x0, y0 = rng.uniform(-20, 60, 2)
        width, height = rng.uniform(3, 50, 2)
        region = (x0, y0, x0 + width, y0 + height)
        grid = torch.rand(28, 28, dtype=torch.float64)
        patch = paste_grid(grid, region, (70, 90))
        left, top, right, bottom = patch.window
        columns = (np.arange(left, right) + 0.5 - x0) / width * 28 - 0.5
        rows = (np.arange(top, bottom) + 0.5 - y0) / height * 28 - 0.5
        at = np.meshgrid(rows, columns, indexing="ij")
        expected = map_coordinates(grid.numpy(), at, order=1, mode="nearest")
        np.testing.assert_allclose(patch.values.numpy(), expected, atol=2e-5)


def test_paste_does_not_move_a_mask():
    # An edge in the middle of the region lies in the middle of the pixels, whatever the zoom.
    grid = torch.zeros(28, 28)
    grid[:, 14:] = 1
    for width in (10, 28, 60):
        values = paste_grid(grid, (20, 20, 20 + width, 40), (100, 100)).values
        assert torch.allclose(values + values.flip(1), torch.ones_like(values), atol=1e-5)


def test_paste_gives_no_gradient_trouble_on_a_line():
    patch = paste_grid(torch.ones(28, 28), (5.0, 5.0, 5.0, 9.0), (20, 20))
    assert patch.window == (5, 5, 6, 9)
    assert torch.isfinite(patch.values).all()


def test_round_trip_of_synthetic_shapes():
    rng = np.random.default_rng(1)
    patches, boxes = [], []
    for _ in range(60):
        canvas = np.zeros((200, 200), dtype=np.uint8)
        axes = (int(rng.integers(12, 50)), int(rng.integers(6, 10)))
        cv2.ellipse(canvas, (100, 100), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        ys, xs = np.nonzero(canvas)
        x0, y0, x1, y1 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
        patches.append(Patch(int(x0), int(y0), torch.from_numpy(canvas[y0:y1, x0:x1] > 0)))
        boxes.append([x0, y0, x1, y1])
    instances = Instances(
        (200, 200),
        torch.tensor(np.array(boxes), dtype=torch.float32),
        torch.ones(60),
        torch.ones(60, dtype=torch.int64),
        patches,
    )
    assert np.mean(round_trip(instances, instances.boxes)) >= 0.99
    assert np.mean(round_trip(instances, grow_boxes(instances.boxes, 0.2, 1.0))) >= 0.98


@pytest.mark.skipif("KEMR_REAL_DATA" not in os.environ, reason="needs the real images")
def test_round_trip_of_real_chromosomes():
    from kemr_lightning.data.labelme import read_labelme

    files = sorted((Path(os.environ["KEMR_REAL_DATA"]) / "bioimlab" / "train").glob("*.json"))
    found: list[float] = []
    for file in files:
        instances = read_labelme(file).instances
        found += round_trip(instances, instances.boxes)
    assert len(found) > 1000
    assert np.mean(found) >= 0.99


def test_detections_come_back_at_the_file_s_size():
    # The file is 100 x 31, the model saw 67 x 21: width and height were rounded apart.
    grid = torch.rand(1, 28, 28)
    box = torch.tensor([[0.0, 0, 67, 21]])
    found = Detections(box, torch.tensor([0.9]), torch.tensor([1]), grid, box.clone(), torch.tensor([0.1]))
    instances = place_detections(found, (21, 67), (31, 100))
    assert instances.boxes.flatten().tolist() == pytest.approx([0, 0, 100, 31], abs=1e-4)
    assert instances.patches[0].window == (0, 0, 100, 31)
    expected = cv2.resize(grid[0].numpy(), (100, 31), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(instances.patches[0].values.numpy(), expected, atol=1e-4)
    assert instances.disagreement.tolist() == pytest.approx([0.1])


def test_detections_are_clipped_to_the_file():
    box = torch.tensor([[-5.0, 3, 25, 30]])
    found = Detections(box, torch.ones(1), torch.ones(1, dtype=torch.int64), torch.ones(1, 4, 4), box)
    instances = place_detections(found, (20, 20), (20, 20))
    assert instances.boxes.tolist() == [[0, 3, 20, 20]]
    assert instances.patches[0].window == (0, 3, 20, 20)


@pytest.mark.parametrize(
    ("image", "frame", "expected"),
    [
        ((576, 768), None, (576, 768)),
        ((1024, 1280), (1280, 1024), (1024, 1280)),
        ((576, 768), (1280, 1024), (960, 1280)),
        ((3200, 2200), (1280, 1024), (1024, 704)),
        ((1, 1000), (100, 100), (1, 100)),
    ],
)
def test_fitted_size(image, frame, expected):
    assert fitted_size(image, frame) == expected


@pytest.mark.parametrize("size", [(80, 100), (25, 31), (40, 50)])
def test_resize_is_pillow_s_bicubic(size):
    rng = np.random.default_rng(2)
    pixels = cv2.GaussianBlur(rng.integers(0, 256, (40, 50)).astype(np.uint8), (5, 5), 1.0)
    resized = resize_image(torch.from_numpy(pixels), size).numpy()
    expected = np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC))
    assert np.abs(resized.astype(int) - expected.astype(int)).max() <= 1


def test_iou_of_patches_by_hand() -> None:
    one = Patch(0, 0, torch.ones(4, 4, dtype=torch.bool))
    other = Patch(2, 1, torch.ones(2, 4, dtype=torch.bool))
    assert patch_iou(one, other) == pytest.approx(4 / (16 + 8 - 4))
    assert patch_iou(one, Patch(4, 0, torch.ones(2, 2, dtype=torch.bool))) == 0
    empty = Patch(0, 0, torch.zeros(4, 4, dtype=torch.bool))
    assert patch_iou(empty, empty) == 0


def test_iou_of_patches_is_that_of_frames() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        patches, frames = [], []
        for _ in range(2):
            x0, y0, w, h = (int(torch.randint(1, 20, (1,), generator=generator)) for _ in range(4))
            values = torch.rand(h, w, generator=generator) > 0.5
            frame = torch.zeros(45, 45, dtype=torch.bool)
            frame[y0 : y0 + h, x0 : x0 + w] = values
            patches.append(Patch(x0, y0, values))
            frames.append(frame)
        union = int((frames[0] | frames[1]).sum())
        expected = int((frames[0] & frames[1]).sum()) / union if union else 0.0
        assert patch_iou(*patches) == pytest.approx(expected)


def test_iou_of_probabilities_follows_the_threshold() -> None:
    one, other = Patch(0, 0, torch.full((2, 2), 0.6)), Patch(0, 0, torch.full((2, 2), 0.4))
    assert patch_iou(one, other) == 0
    assert patch_iou(one, other, threshold=0.3) == 1
