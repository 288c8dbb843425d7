from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances
from kemr_lightning.prediction.tiling import Tiling, merge_tiles, predict_tiles
from tests.metrics.helpers import instances, rod


@pytest.mark.parametrize("size", [(100, 100), (300, 100), (257, 401), (1000, 130)])
@pytest.mark.parametrize(("side", "overlap"), [(128, 0), (128, 48), (100, 50)])
def test_tiles_cover_the_image_and_share_enough(size: tuple[int, int], side: int, overlap: int) -> None:
    windows = Tiling(side, overlap).windows(size)
    seen = np.zeros(size, int)
    for x0, y0, x1, y1 in windows:
        assert 0 <= x0 < x1 <= size[1]
        assert 0 <= y0 < y1 <= size[0]
        assert (x1 - x0, y1 - y0) == (min(side, size[1]), min(side, size[0]))
        seen[y0:y1, x0:x1] += 1
    assert seen.min() >= 1
    for axis in (0, 1):
        starts = sorted({window[axis] for window in windows})
        assert all(after - before <= side - overlap for before, after in itertools.pairwise(starts))


@pytest.mark.parametrize(("side", "overlap"), [(32, 0), (128, 65), (128, -1)])
def test_impossible_tiles_are_refused(side: int, overlap: int) -> None:
    with pytest.raises(UserError, match=r"predict\.(tile|overlap)"):
        Tiling(side, overlap)


def scattered(count: int, size: tuple[int, int], seed: int) -> list[np.ndarray]:
    """Rods that cross only now and then; no two are nearly the same."""
    rng = np.random.default_rng(seed)
    masks: list[np.ndarray] = []
    while len(masks) < count:
        new = rod(rng, size)
        if new.any() and all((new & mask).sum() < 0.4 * min(new.sum(), mask.sum()) for mask in masks):
            masks.append(new)
    return masks


def oracle(masks: list[np.ndarray], windows: list[tuple[int, int, int, int]]) -> Callable[[Tensor], Instances]:
    """A detector that finds every mask it sees, or the visible part of it, tile after tile."""
    remaining = iter(windows)

    def predict(image: Tensor) -> Instances:
        x0, y0, x1, y1 = next(remaining)
        parts = [mask[y0:y1, x0:x1] for mask in masks]
        visible = [part for part in parts if part.sum() > 6]
        scores = [0.6 + 0.3 * (index % 2) for index in range(len(visible))]
        return instances(visible, (y1 - y0, x1 - x0), [1] * len(visible), scores)

    return predict


@pytest.mark.parametrize("seed", range(4))
def test_seams_leave_neither_double_nor_cut_chromosomes(seed: int) -> None:
    size = (260, 310)
    masks = scattered(60, size, seed)
    tiling = Tiling(120, 44)  # rods are at most 36 px long
    found, cut = predict_tiles(oracle(masks, tiling.windows(size)), torch.zeros(size, dtype=torch.uint8), tiling)
    assert len(found) == len(masks)
    assert not cut.any()
    stack = found.masks().numpy()
    for mask in masks:
        assert (stack == mask).all(axis=(1, 2)).sum() == 1
    assert (found.scores[:-1] >= found.scores[1:]).all()
    assert found.image_size == size


def test_full_tiles_are_cut_further() -> None:
    size = (300, 300)
    masks = scattered(60, size, 5)
    seen: list[tuple[int, ...]] = []

    def at_most_20(image: Tensor) -> Instances:
        # The picture holds the number of each mask in bits, so that a tile alone tells what is on it.
        bits = image.numpy()
        seen.append(tuple(image.shape))
        parts = [part for part in ((bits >> index) & 1 for index in range(60)) if part.sum() > 6]
        return instances(
            [part.astype(bool) for part in parts[:20]],
            tuple(image.shape),
            [1] * len(parts[:20]),
            [0.9] * len(parts[:20]),
        )

    picture = torch.from_numpy(sum(mask.astype(np.int64) << index for index, mask in enumerate(masks)))
    few, _ = predict_tiles(at_most_20, picture, Tiling(200, 44))
    assert len(few) < 60
    found, cut = predict_tiles(at_most_20, picture, Tiling(200, 44), limit=20)
    assert len(found) == 60
    assert not cut.any()
    assert set(seen) == {(200, 200), (122, 122)}


def test_what_is_longer_than_the_overlap_is_joined() -> None:
    size = (100, 300)
    long = np.zeros(size, bool)
    long[40:52, 20:280] = True
    tiling = Tiling(120, 30)
    found, _ = predict_tiles(oracle([long], tiling.windows(size)), torch.zeros(size, dtype=torch.uint8), tiling)
    assert len(found) == 1
    np.testing.assert_array_equal(found.masks()[0].numpy(), long)
    assert found.boxes[0].tolist() == [20, 40, 280, 52]


def test_a_piece_that_no_other_tile_explains_is_marked_as_cut() -> None:
    piece = np.zeros((64, 64), bool)
    piece[20:30, 50:64] = True
    tile = instances([piece], (64, 64), [1], [0.9])
    found, cut = merge_tiles([((0, 0, 64, 64), tile), ((40, 0, 104, 64), Instances.empty((64, 64)))], (64, 104))
    assert len(found) == 1
    assert cut.tolist() == [True]


def test_the_better_view_has_the_mask_and_the_surer_one_the_score() -> None:
    image_size = (64, 120)
    central = np.zeros((64, 80), bool)
    central[20:30, 20:50] = True  # columns 60 to 90 of the image, in the middle of the second tile
    aside = np.zeros((64, 80), bool)
    aside[20:31, 60:80] = True  # the first tile sees two thirds of it
    tiles = [
        ((0, 0, 80, 64), instances([aside], (64, 80), [1], [0.95])),
        ((40, 0, 120, 64), instances([central], (64, 80), [2], [0.6])),
    ]
    found, cut = merge_tiles(tiles, image_size)
    assert len(found) == 1
    assert not cut.any()
    assert found.labels.tolist() == [2]
    assert found.boxes[0].tolist() == [60, 20, 90, 30]
    assert found.scores[0] == pytest.approx(0.6)  # the other is of another class
    tiles[1][1].labels[:] = 1
    assert merge_tiles(tiles, image_size)[0].scores[0] == pytest.approx(0.95)


def test_small_chromosomes_across_large_ones_stay() -> None:
    # The small one lies in the large one almost entirely, in two tiles; nothing is cut.
    image_size = (64, 120)
    large, small = np.zeros(image_size, bool), np.zeros(image_size, bool)
    large[20:40, 45:75] = True
    small[24:42, 55:63] = True
    windows = [(0, 0, 80, 64), (40, 0, 120, 64)]
    tiling = Tiling(80, 40)
    assert tiling.windows(image_size) == windows
    found, _ = predict_tiles(oracle([large, small], windows), torch.zeros(image_size, dtype=torch.uint8), tiling)
    assert len(found) == 2


def test_small_images_are_predicted_whole_and_disagreement_is_kept() -> None:
    seen = []

    def predict(image: Tensor) -> Instances:
        seen.append(tuple(image.shape))
        one = instances([np.ones((4, 4), bool)], tuple(image.shape), [1], [0.5])
        one.disagreement = torch.tensor([0.25])
        return one

    image = torch.zeros((70, 100), dtype=torch.uint8)
    assert predict_tiles(predict, image, Tiling(128, 10))[0].disagreement == torch.tensor([0.25])
    assert predict_tiles(predict, image, None)[0].disagreement == torch.tensor([0.25])
    merged, _ = predict_tiles(predict, image, Tiling(64, 10))
    assert merged.disagreement is not None
    assert len(merged.disagreement) == len(merged)
    assert seen == [(70, 100)] * 2 + [(64, 64)] * 4
