from __future__ import annotations

import numpy as np
import pytest
import torch

from kemr_lightning.core.instances import Instances
from kemr_lightning.prediction.merging import Window, merge_tiles
from kemr_lightning.prediction.tiling import Tiling
from tests.metrics.helpers import instances
from tests.prediction.helpers import scattered


def seen_in_tiles(masks: list[np.ndarray], windows: list[Window]) -> list[tuple[Window, Instances]]:
    """What a perfect detector finds in each tile: every mask, or the visible part of it."""
    tiles = []
    for x0, y0, x1, y1 in windows:
        visible = [part for part in (mask[y0:y1, x0:x1] for mask in masks) if part.sum() > 6]
        scores = [0.6 + 0.3 * (index % 2) for index in range(len(visible))]
        tiles.append(((x0, y0, x1, y1), instances(visible, (y1 - y0, x1 - x0), [1] * len(visible), scores)))
    return tiles


@pytest.mark.parametrize("seed", range(4))
def test_seams_leave_neither_double_nor_cut_chromosomes(seed: int) -> None:
    size = (260, 310)
    masks = scattered(60, size, seed)
    windows = Tiling(120, 44).windows(size)  # rods are at most 36 px long
    found, cut = merge_tiles(seen_in_tiles(masks, windows), size)
    assert len(found) == len(masks)
    assert not cut.any()
    stack = found.masks().numpy()
    for mask in masks:
        assert (stack == mask).all(axis=(1, 2)).sum() == 1
    assert (found.scores[:-1] >= found.scores[1:]).all()
    assert found.image_size == size


def test_what_is_longer_than_the_overlap_is_joined() -> None:
    size = (100, 300)
    long = np.zeros(size, bool)
    long[40:52, 20:280] = True
    found, cut = merge_tiles(seen_in_tiles([long], Tiling(120, 30).windows(size)), size)
    assert len(found) == 1
    assert not cut.any()
    np.testing.assert_array_equal(found.masks()[0].numpy(), long)
    assert found.boxes[0].tolist() == [20, 40, 280, 52]


def test_joined_parts_have_the_higher_score_and_disagreement() -> None:
    part = np.zeros((40, 60), bool)
    part[10:20] = True
    tiles = []
    for x0, score, spread in ((0, 0.6, 0.3), (40, 0.8, 0.1)):
        tile = instances([part], (40, 60), [1], [score])
        tile.disagreement = torch.tensor([spread])
        tiles.append(((x0, 0, x0 + 60, 40), tile))
    found, _ = merge_tiles(tiles, (40, 100))
    assert found.masks().sum() == 10 * 100
    assert found.scores.tolist() == pytest.approx([0.8])
    assert found.disagreement is not None
    assert found.disagreement.tolist() == pytest.approx([0.3])


def test_a_piece_that_no_other_tile_explains_is_marked_as_cut() -> None:
    piece = np.zeros((64, 64), bool)
    piece[20:30, 50:64] = True
    tile = instances([piece], (64, 64), [1], [0.9])
    found, cut = merge_tiles([((0, 0, 64, 64), tile), ((40, 0, 104, 64), Instances.empty((64, 64)))], (64, 104))
    assert len(found) == 1
    assert cut.tolist() == [True]
    # The right border of the second tile is the image's own.
    found, cut = merge_tiles([((40, 0, 104, 64), tile)], (64, 104))
    assert found.boxes[0].tolist() == [90, 20, 104, 30]
    assert cut.tolist() == [False]


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
    windows = Tiling(80, 40).windows(image_size)
    assert windows == [(0, 0, 80, 64), (40, 0, 120, 64)]
    found, _ = merge_tiles(seen_in_tiles([large, small], windows), image_size)
    assert len(found) == 2


def test_empty_masks_and_empty_tiles() -> None:
    nothing, cut = merge_tiles([((0, 0, 64, 64), Instances.empty((64, 64)))], (64, 104))
    assert len(nothing) == len(cut) == 0
    assert nothing.image_size == (64, 104)
    emptied = instances([np.ones((5, 5), bool)], (64, 64), [1], [0.9])
    assert emptied.patches is not None
    emptied.patches[0].values[:] = False
    found, cut = merge_tiles([((40, 0, 104, 64), emptied)], (64, 104))
    assert found.boxes[0].tolist() == [40, 0, 45, 5]
    assert cut.tolist() == [True]  # by its box, which begins at the tile's left border
