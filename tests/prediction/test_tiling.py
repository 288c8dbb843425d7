from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Instances
from kemr_lightning.prediction.tiling import Tiling, predict_tiles
from tests.metrics.helpers import instances
from tests.prediction.helpers import scattered


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


def test_no_more_tiles_than_needed() -> None:
    # 400 pixels need three tiles of 160 that share 40: two reach over 280 only.
    assert Tiling(160, 40).windows((160, 400)) == [(0, 0, 160, 160), (120, 0, 280, 160), (240, 0, 400, 160)]
    assert Tiling(160, 40).windows((160, 280)) == [(0, 0, 160, 160), (120, 0, 280, 160)]
    assert Tiling(160, 40).windows((90, 160)) == [(0, 0, 160, 90)]


@pytest.mark.parametrize(
    ("side", "overlap", "message"),
    [
        (32, 0, "side=32 is too small for a chromosome. Give at least 64 pixels"),
        (128, 65, "overlap=65 is too much for tiles of 128. Give 0 to 64 pixels"),
        (128, -1, "overlap=-1 is negative. Give 0 to 64 pixels"),
    ],
)
def test_impossible_tiles_are_refused(side: int, overlap: int, message: str) -> None:
    with pytest.raises(SettingError) as error:
        Tiling(side, overlap)
    assert str(error.value) == message


def at_most(count: int, masks: int, seen: list[tuple[int, ...]]) -> object:
    """A detector that finds the first few of the masks that an image holds in its bits, mask by mask."""

    def predict(image: Tensor) -> Instances:
        bits = image.numpy()
        size = (bits.shape[0], bits.shape[1])
        seen.append(size)
        parts = [part.astype(bool) for part in ((bits >> index) & 1 for index in range(masks)) if part.sum() > 6]
        parts = parts[:count]
        return instances(parts, size, [1] * len(parts), [0.9] * len(parts))

    return predict


def test_full_tiles_are_cut_further() -> None:
    masks = scattered(60, (300, 300), 5)
    picture = torch.from_numpy(sum(mask.astype(np.int64) << index for index, mask in enumerate(masks)))
    seen: list[tuple[int, ...]] = []
    predict = at_most(20, 60, seen)
    without_limit = predict_tiles(predict, picture, Tiling(200, 44))  # type: ignore[arg-type]
    assert len(without_limit.instances) < 60
    assert without_limit.full == []
    found = predict_tiles(predict, picture, Tiling(200, 44), limit=20)  # type: ignore[arg-type]
    assert len(found.instances) == 60
    assert found.cut is not None
    assert not found.cut.any()
    assert found.full == []
    assert set(seen) == {(200, 200), (122, 122)}


def test_views_that_stay_full_are_returned() -> None:
    masks = scattered(60, (300, 300), 5)
    picture = torch.from_numpy(sum(mask.astype(np.int64) << index for index, mask in enumerate(masks)))
    # Half a tile and half the overlap, 142 pixels, are less than two overlaps: no tile is cut further.
    seen: list[tuple[int, ...]] = []
    found = predict_tiles(at_most(9, 60, seen), picture, Tiling(200, 84), limit=9)  # type: ignore[arg-type]
    assert seen == [(200, 200)] * 4
    assert [len(each) for each in found.full] == [9] * 4
    whole = predict_tiles(at_most(9, 60, seen), picture, None, limit=9)  # type: ignore[arg-type]
    assert [len(each) for each in whole.full] == [9]
    assert predict_tiles(at_most(60, 60, seen), picture, None, limit=61).full == []  # type: ignore[arg-type]


def test_small_images_are_predicted_whole_and_disagreement_is_kept() -> None:
    seen = []

    def predict(image: Tensor) -> Instances:
        seen.append(tuple(image.shape))
        one = instances([np.ones((4, 4), bool)], tuple(image.shape), [1], [0.5])
        one.disagreement = torch.tensor([0.25])
        return one

    image = torch.zeros((70, 100), dtype=torch.uint8)
    for tiling in (Tiling(128, 10), None):
        whole = predict_tiles(predict, image, tiling)
        assert whole.instances.disagreement == torch.tensor([0.25])
        assert whole.cut is None
    cut = predict_tiles(predict, image, Tiling(64, 10))
    assert cut.instances.disagreement is not None
    assert len(cut.instances.disagreement) == len(cut.instances)
    assert seen == [(70, 100)] * 2 + [(64, 64)] * 4
