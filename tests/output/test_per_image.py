"""Every annotation and every prediction is in exactly one column; curves give the AP they are of."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.core.instances import Instances
from kemr_lightning.metrics.matching import match, match_boxes
from kemr_lightning.metrics.records import ImageRecord, record
from kemr_lightning.metrics.segmentation import extended_figures, headline
from kemr_lightning.output.per_image import (
    ANNOTATED,
    CURVE_COLUMNS,
    WRONG,
    curve_rows,
    image_columns,
    image_rows,
)
from tests.callbacks.helpers import eroding, samples
from tests.metrics.helpers import instances

SCORE = 0.3


def made(count: int = 12) -> tuple[list[ImageRecord], list[ImageRecord]]:
    items, found = samples(count, seed=1)
    initial, refined = [], []
    for sample in items:
        assert sample.instances is not None
        truth, first = sample.instances, found[sample.image_id]
        initial.append(record(first, truth, sample.image_id, sample.name))
        refined.append(record(eroding(sample.image, first), truth, sample.image_id, sample.name))
    return initial, refined


def test_columns_add_up_and_give_instance_accuracy() -> None:
    initial, refined = made()
    matches = {
        "initial": [match(item, SCORE, boundaries=False) for item in initial],
        "refined": [match(item, SCORE, boundaries=False) for item in refined],
    }
    rows = list(image_rows(initial, matches))
    assert [set(row) for row in rows] == [set(image_columns(True))] * len(initial)
    for row, item in zip(rows, initial, strict=True):
        assert row["annotated"] == len(item.truth) == sum(row[name] for name in ANNOTATED)
        assert row["count"] == sum(entry.score >= SCORE for entry in item.predictions)
        assert row["count"] == row["found"] + row["mislabelled"] + sum(row[name] for name in WRONG)
        assert row["annotated"] == sum(row[f"initial_{name}"] for name in ANNOTATED)
    annotated = sum(row["annotated"] for row in rows)
    for prefix, records in (("", refined), ("initial_", initial)):
        expected = headline(records, SCORE)["IA"]
        assert 100 * sum(row[f"{prefix}found"] for row in rows) / annotated == pytest.approx(expected)
    assert any(row["found"] != row["initial_found"] or row["mean_iou"] != row["initial_mean_iou"] for row in rows)


def test_one_of_each_kind() -> None:
    def block(left: int, right: int, row: int) -> np.ndarray:
        mask = np.zeros((60, 60), dtype=bool)
        mask[row : row + 6, left:right] = True
        return mask

    truth = [block(2, 22, 2), block(2, 22, 12), block(24, 44, 12), block(2, 42, 22), block(2, 22, 32)]
    found = [
        *(block(2, 21, 2), block(3, 22, 2)),  # found, and once more
        block(2, 44, 12),  # one over two
        *(block(2, 21, 22), block(23, 42, 22)),  # two in one
        block(30, 50, 50),  # nothing there; and the last annotation is missed
    ]
    scores = [0.9, 0.8, 0.9, 0.9, 0.9, 0.9]
    item = record(
        instances(found, (60, 60), [1] * 6, scores), instances(truth, (60, 60), [1] * 5, [1.0] * 5), 7, "a/b.png"
    )
    (row,) = image_rows([item], {"initial": [match(item)]})
    assert {name: row[name] for name in ("image_id", "file_name", "width", "height", "annotated", "count")} == {
        "image_id": 7, "file_name": "a/b.png", "width": 60, "height": 60, "annotated": 5, "count": 6
    }  # fmt: skip
    assert [row[name] for name in ANNOTATED] == [1, 1, 2, 1, 0]
    assert [row[name] for name in WRONG] == [1, 1, 1, 2]
    assert row["mean_iou"] == 0.95


def test_boxes_alone_are_found_or_missed() -> None:
    truth = Instances.empty((40, 40))
    truth = instances([np.pad(np.ones((8, 8), bool), ((2, 30), (2 + 16 * i, 30 - 16 * i))) for i in range(2)],
                      (40, 40), [1, 1], [1.0, 1.0])  # fmt: skip
    found = instances([np.pad(np.ones((8, 8), bool), ((2, 30), (3, 29)))], (40, 40), [1], [0.9])
    truth.patches = None
    item = record(found, truth, 1)
    (row,) = image_rows([item], {"initial": [match_boxes(item)]})
    assert (row["annotated"], row["count"], row["found"], row["missed"], row["false"]) == (2, 1, 1, 1, 0)
    assert row["mean_iou"] == pytest.approx(7 / 9, abs=1e-4)
    assert match_boxes(item, score=0.95).predictions == ["unsure"]


def test_curves_average_to_the_ap_they_are_of() -> None:
    initial, refined = made()
    extended = {"initial": extended_figures(initial), "refined": extended_figures(refined)}
    rows = list(curve_rows(extended))
    assert set(rows[0]) == set(CURVE_COLUMNS)
    for name in extended:
        for iou in ("0.50", "0.75"):
            curve = [row["precision"] for row in rows if (row["masks"], row["iou"]) == (name, iou)]
            assert len(curve) == 101
            assert 100 * np.mean(curve) == pytest.approx(extended[name]["mask"][f"AP{iou[2:]}"], abs=1e-3)
