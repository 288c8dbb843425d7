"""Records hold what was annotated and predicted, exactly, and survive a trip as JSON."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.metrics.records import ImageRecord, record
from tests.metrics.helpers import boxes_only, of_squares, scene


@pytest.mark.parametrize("seed", range(3))
def test_masks_and_boxes_equal_pycocotools_on_full_frames(seed: int) -> None:
    predictions, truth = scene(np.random.default_rng(seed), classes=3, count=6)
    item = record(predictions, truth, 5, "a/b.png")
    assert (item.image_id, item.name, item.size, item.masks) == (5, "a/b.png", truth.image_size, True)
    for side, entries in ((truth, item.truth), (predictions, item.predictions)):
        assert [entry.label for entry in entries] == side.labels.tolist()
        for frame, box, entry in zip(side.masks().numpy(), side.boxes.double().tolist(), entries, strict=True):
            code = coco_mask.encode(np.asfortranarray(frame.astype(np.uint8)))
            assert item.rle(entry)["counts"] == entry.counts == code["counts"].decode()
            if side is truth:
                assert list(entry.box) == coco_mask.toBbox(code).tolist()
                assert entry.area == frame.sum()
            else:
                x0, y0, x1, y1 = box
                assert entry.box == (x0, y0, x1 - x0, y1 - y0)
    assert [entry.score for entry in item.predictions] == predictions.scores.double().tolist()
    frames = [side.masks().numpy().astype(bool) for side in (predictions, truth)]
    shared = np.array([[(a & b).sum() / (a | b).sum() for b in frames[1]] for a in frames[0]])
    assert np.allclose(item.iou(masks=True), shared.reshape(len(predictions), len(truth)))


def test_json_keeps_every_bit() -> None:
    predictions, truth = scene(np.random.default_rng(4), classes=2, count=5)
    predictions.scores = torch.rand(len(predictions), generator=torch.Generator().manual_seed(0))
    item = record(predictions, truth, 7, 'ü "quoted"\n.png')
    line = item.to_json()
    assert "\n" not in line
    assert ImageRecord.from_json(line) == item
    assert (
        ImageRecord.from_json(record(boxes_only(predictions), boxes_only(truth), 1).to_json()).truth[0].counts is None
    )


def test_a_mask_is_where_the_probability_reaches_the_threshold() -> None:
    values = torch.tensor([[0.2, 0.5, 0.8]])
    one = Instances((1, 4), torch.tensor([[0.0, 0, 3, 1]]), torch.ones(1), torch.ones(1, dtype=torch.int64),
                    [Patch(1, 0, values)])  # fmt: skip
    for threshold, pixels in ((0.1, 3), (0.5, 2), (0.81, 0)):
        item = record(one, Instances.empty((1, 4)), 1, threshold=threshold)
        assert coco_mask.area(item.rle(item.predictions[0])) == pixels


def test_boxes_alone() -> None:
    item = record(of_squares((0, 0, 0.9, 1)), boxes_only(of_squares((5, 0, 1, 1))), 1)
    assert not item.masks
    assert item.truth[0].area == 100
    assert item.iou(masks=False).tolist() == [[pytest.approx(50 / 150)]]
    with pytest.raises(ValueError, match="instance of image 1 has no mask"):
        item.iou(masks=True)


def test_what_does_not_fit_together_is_refused() -> None:
    truth = of_squares((0, 0, 1, 1))
    with pytest.raises(ValueError, match="image 3: annotations have masks, predictions have boxes only"):
        record(boxes_only(truth), truth, 3)
    with pytest.raises(ValueError, match=r"image 3: predictions are for a size of \(4, 4\), not \(50, 50\)"):
        record(Instances.empty((4, 4)), truth, 3)
