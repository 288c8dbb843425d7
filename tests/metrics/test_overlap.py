"""AP of overlapped and isolated annotations: by hand, and against pycocotools."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.metrics.overlap import average_precision_by_overlap, overlapped
from kemr_lightning.metrics.records import ImageRecord, record
from tests.metrics.helpers import scene

Box = tuple[int, int, int, int]


def squares(boxes: list[Box], scores: list[float] | None = None) -> Instances:
    return Instances(
        (100, 100),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(scores or [1.0] * len(boxes)),
        torch.ones(len(boxes), dtype=torch.int64),
        [Patch(x0, y0, torch.ones((y1 - y0, x1 - x0), dtype=torch.bool)) for x0, y0, x1, y1 in boxes],
    )


CROSSING: list[Box] = [(0, 0, 10, 20), (0, 18, 10, 40)]  # 2 x 10 = 20 shared pixels
ALONE: list[Box] = [(50, 0, 60, 20), (70, 0, 80, 20)]


def of(predictions: list[Box], scores: list[float], truth: list[Box]) -> ImageRecord:
    return record(squares(predictions, scores), squares(truth), 1)


def test_twenty_shared_pixels_overlap_and_nineteen_do_not() -> None:
    assert overlapped(of([], [], [*CROSSING, *ALONE])) == [True, True, False, False]
    assert overlapped(of([], [], [(0, 0, 19, 10), (0, 9, 19, 20)])) == [False, False]


def test_each_kind_by_hand() -> None:
    # One of two crossing ones is found, below a false prediction beside it; both that stand alone are found.
    predictions = [(0, 20, 10, 60), CROSSING[0], *ALONE]
    found = average_precision_by_overlap([of(predictions, [0.9, 0.8, 0.7, 0.6], [*CROSSING, *ALONE])])
    assert found["isolated"].at() == pytest.approx(100)
    # Precision 1/2 up to recall 1/2: 51 of 101 recall points.
    assert found["overlapped"].at() == pytest.approx(100 * 0.5 * 51 / 101)


def test_false_predictions_on_the_background_count_against_isolated_ones() -> None:
    predictions = [(20, 60, 40, 80), *CROSSING, *ALONE]
    found = average_precision_by_overlap([of(predictions, [0.9, 0.8, 0.8, 0.7, 0.6], [*CROSSING, *ALONE])])
    assert found["overlapped"].at() == pytest.approx(100)
    assert found["isolated"].at() == pytest.approx(100 * 2 / 3)


def test_a_kind_that_does_not_occur_has_no_figure() -> None:
    found = average_precision_by_overlap([of(ALONE, [0.9, 0.8], ALONE)])
    assert found["isolated"].at() == pytest.approx(100)
    assert np.isnan(found["overlapped"].at())


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_pycocotools_on_full_frames(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [scene(rng) for _ in range(4)]
    found = average_precision_by_overlap([record(p, t, number) for number, (p, t) in enumerate(pairs, 1)])
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": n} for n in range(1, 9)]}
    results: list[dict[str, Any]] = []
    for image_id, (predicted, target) in enumerate(pairs, 1):
        height, width = target.image_size
        truth["images"].append({"id": image_id, "height": height, "width": width})
        masks = target.masks().numpy()
        among = [[int((a & b).sum()) for j, b in enumerate(masks) if j != i] for i, a in enumerate(masks)]
        areas = [10 if max(row, default=0) >= 20 else 1000 for row in among]
        for side, rows in ((target, truth["annotations"]), (predicted, results)):
            frames, labels, scores = side.masks().numpy(), side.labels.tolist(), side.scores.tolist()
            for mask, label, score in zip(frames, labels, scores, strict=True):
                shared = [int((mask & other).sum()) for other in masks]
                area = areas[int(np.argmax(shared))] if max(shared, default=0) else 1000
                if side is target:
                    area = areas[len([a for a in rows if a["image_id"] == image_id])]
                code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
                one = {"id": len(rows) + 1, "image_id": image_id, "category_id": label, "iscrowd": 0, "area": area}
                rows.append({**one, "score": score, "bbox": [0, 0, 1, 1], "segmentation": code})
    assert {a["area"] for a in truth["annotations"]} == {10, 1000}
    with contextlib.redirect_stdout(io.StringIO()):
        sides = [COCO(), COCO()]
        for side, rows in zip(sides, (truth["annotations"], results), strict=True):
            side.dataset = {**truth, "annotations": rows}
            side.createIndex()
        evaluation = COCOeval(*sides, "segm")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 100], [100, 1e10]], ["overlapped", "isolated"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]
    for index, name in enumerate(("overlapped", "isolated")):
        values = precision[:, :, :, index]
        assert found[name].at() == pytest.approx(100 * values[values > -1].mean(), abs=1e-9)
