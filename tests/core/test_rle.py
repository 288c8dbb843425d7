"""Patches to COCO RLE and back, against pycocotools on full frames."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from kemr_lightning.core import rle
from kemr_lightning.core.instances import Patch


def frame(patch: Patch, size: tuple[int, int], threshold: float = 0.5) -> np.ndarray:
    full = np.zeros(size, dtype=np.uint8, order="F")
    x0, y0, x1, y1 = patch.window
    full[y0:y1, x0:x1] = patch.binary(threshold).numpy()
    return full


def random_patch(rng: np.random.Generator) -> tuple[Patch, tuple[int, int]]:
    """Windows of every kind: inside, on any border, full height, full width; fillings from empty to full."""
    height, width = (int(v) for v in rng.integers(1, 24, 2))
    x0, x1 = sorted(int(v) for v in rng.choice(width + 1, 2, replace=False))
    y0, y1 = sorted(int(v) for v in rng.choice(height + 1, 2, replace=False))
    if rng.random() < 0.4:
        y0, y1 = 0, height
    if rng.random() < 0.3:
        x0, x1 = 0, width
    density = rng.choice([0.0, 0.05, 0.5, 0.95, 1.0])
    values = rng.random((y1 - y0, x1 - x0))
    values = values < density
    return Patch(x0, y0, torch.from_numpy(values)), (height, width)


@pytest.mark.parametrize("seed", range(300))
def test_encode_is_byte_identical_to_pycocotools_and_decode_returns_it(seed: int) -> None:
    patch, size = random_patch(np.random.default_rng(seed))
    full = frame(patch, size)
    expected = coco_mask.encode(full)
    encoded = rle.encode(patch, size)
    assert encoded == expected
    back = rle.decode(encoded)
    assert np.array_equal(frame(back, size), full)
    assert rle.area(encoded) == full.sum()
    if full.any():
        rows, columns = np.nonzero(full)
        assert back.window == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        x, y, w, h = rle.tight_box(encoded)
        assert back.window == (x, y, x + w, y + h)
    else:
        assert back.area() == 0


def test_a_mask_of_the_whole_image_and_one_that_wraps_from_column_to_column() -> None:
    whole = Patch(0, 0, torch.ones((4, 3), dtype=torch.bool))
    assert rle.encode(whole, (4, 3)) == coco_mask.encode(frame(whole, (4, 3)))
    wrapped = torch.zeros((4, 2), dtype=torch.bool)
    wrapped[2:, 0] = True
    wrapped[:1, 1] = True
    patch = Patch(1, 0, wrapped)
    assert rle.encode(patch, (4, 5)) == coco_mask.encode(frame(patch, (4, 5)))


def test_probabilities_are_cut_at_the_threshold() -> None:
    patch = Patch(2, 1, torch.tensor([[0.2, 0.5], [0.7, 0.49]]))
    assert rle.area(rle.encode(patch, (6, 6))) == 2
    assert rle.area(rle.encode(patch, (6, 6), threshold=0.3)) == 3


def test_a_window_outside_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="leaves its image"):
        rle.encode(Patch(3, 0, torch.ones(2, 2)), (4, 4))


def test_iou_and_intersections_by_hand() -> None:
    left = rle.encode(Patch(0, 0, torch.ones(2, 2)), (4, 4))
    right = rle.encode(Patch(1, 0, torch.ones(2, 2)), (4, 4))
    empty = rle.encode(Patch(0, 0, torch.zeros(1, 1)), (4, 4))
    assert np.allclose(rle.iou([left, empty], [right, left, empty]), [[1 / 3, 1, 0], [0, 0, 0]])
    assert rle.iou([], [left]).shape == (0, 1)
    assert rle.intersections([left, empty], [right, left, empty]).tolist() == [[2, 4, 0], [0, 0, 0]]
    assert rle.intersections([left], []).shape == (1, 0)
    assert np.allclose(rle.box_iou([[0, 0, 2, 2]], [[1, 0, 2, 2], [0, 0, 2, 2]]), [[1 / 3, 1]])


def test_counts_may_be_text() -> None:
    patch = Patch(1, 1, torch.ones(2, 3))
    encoded = rle.encode(patch, (5, 6))
    text = rle.RLE(size=encoded["size"], counts=bytes(encoded["counts"]).decode())  # type: ignore[arg-type]
    assert rle.decode(text).window == (1, 1, 4, 3)
    assert rle.iou([text], [encoded])[0, 0] == 1


def test_counts_of_another_size_are_refused() -> None:
    other = coco_mask.encode(np.asfortranarray(np.ones((40, 40), dtype=np.uint8)))
    with pytest.raises(ValueError, match="60x80"):
        rle.decode(rle.RLE(size=[80, 60], counts=other["counts"]))
    with pytest.raises(ValueError, match="malformed"):
        rle.decode(rle.RLE(size=[80, 60], counts=b"garbage"))
