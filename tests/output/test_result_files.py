"""The files of a test: what COCO's formats ask for, and which files there are."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kemr_lightning.comparison.runs import read_image_records
from kemr_lightning.metrics.records import Entry, ImageRecord, record
from kemr_lightning.metrics.segmentation import headline
from kemr_lightning.output.result_files import CLASS_COLUMNS, ResultFilesWriter, class_rows, ground_truth, results
from tests.metrics.helpers import of_squares, scene, with_crowds

FIGURES = {"initial": {"MaskAP": 12.345678901234567, "IA": float("nan"), "Own": 1.0}}


def image(image_id: int = 4) -> ImageRecord:
    found, truth = of_squares((0, 0, 0.75, 2), (20, 0, 0.5, 1)), of_squares((1, 0, 1, 2))
    return record(found, truth, image_id, f"test/{image_id}.png")


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def test_predictions_by_hand() -> None:
    first, second = results([image()])
    assert first["segmentation"]["size"] == [50, 50]
    del first["segmentation"], second["segmentation"]
    assert first == {"image_id": 4, "category_id": 2, "bbox": [0, 0, 10, 10], "score": 0.75}
    assert second == {"image_id": 4, "category_id": 1, "bbox": [20, 0, 10, 10], "score": 0.5}


def test_annotations_by_hand() -> None:
    found = ground_truth([image(4), image(9)], ["A"])
    assert [each["id"] for each in found["annotations"]] == [1, 2]
    assert [each["image_id"] for each in found["annotations"]] == [4, 9]
    assert (found["annotations"][0]["bbox"], found["annotations"][0]["area"]) == ([1, 0, 10, 10], 100)
    assert found["images"][1] == {"id": 9, "file_name": "test/9.png", "width": 50, "height": 50}
    # A class without a name is named by its number; a name without an instance is kept.
    assert found["categories"] == [{"id": 1, "name": "A"}, {"id": 2, "name": "2"}]
    assert [each["name"] for each in ground_truth([], ["A", "B", "C"])["categories"]] == ["A", "B", "C"]


def test_boxes_alone_have_no_segmentation() -> None:
    item = ImageRecord(1, (5, 5), truth=[Entry(1, (0, 0, 2, 2), 1.0, None, 4.0)], masks=False)
    assert "segmentation" not in ground_truth([item])["annotations"][0]


def test_without_a_refiner_both_predictions_are_the_same(tmp_path: Path) -> None:
    ResultFilesWriter(tmp_path / "run").write([image()], None, FIGURES)
    names = {"predictions.json", "predictions_initial.json", "ground_truth.json", "metrics.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names
    assert read(tmp_path / "run" / "predictions.json") == read(tmp_path / "run" / "predictions_initial.json")
    metrics = read(tmp_path / "run" / "metrics.json")
    assert metrics == {
        "images": 1,
        "instances": 1,
        "initial": {"MaskAP": 12.345678901234567, "IA": None, "Own": 1.0},
    }


def test_final_predictions_are_the_refined_ones(tmp_path: Path) -> None:
    refined = replace(image(), predictions=image().predictions[:1])
    ResultFilesWriter(tmp_path).write([image()], [refined], {**FIGURES, "refined": {"MaskAP": 13.0}})
    assert len(read(tmp_path / "predictions_initial.json")) == 2
    assert len(read(tmp_path / "predictions.json")) == 1
    assert read(tmp_path / "metrics.json")["refined"] == {"MaskAP": 13.0}


@pytest.mark.parametrize("classes", [1, 2])
def test_classes_have_a_table_if_there_are_several(tmp_path: Path, classes: int) -> None:
    figures = dict.fromkeys(CLASS_COLUMNS[2:], 5.0)
    initial = dict.fromkeys(("A", "B")[:classes], figures)
    refined = {"B": {**figures, "MaskAP": 6.0}, **initial} if classes > 1 else initial
    extended = {"initial": {"per_class": initial}, "refined": {"per_class": refined}}
    ResultFilesWriter(tmp_path).write([image()], [image()], FIGURES, extended)
    assert read(tmp_path / "metrics_extended.json") == extended
    assert (tmp_path / "metrics_per_class.csv").exists() == (classes > 1)
    if classes > 1:
        with (tmp_path / "metrics_per_class.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert [(row["class"], row["masks"]) for row in rows] == [
            *(("A", "initial"), ("A", "refined")),
            *(("B", "initial"), ("B", "refined")),
        ]
        assert [row["class"] for row in class_rows(extended)] == ["A", "A", "B", "B"]
        assert set(rows[0]) == set(CLASS_COLUMNS)


def test_pycocotools_on_the_files_gives_the_figures_with_crowds(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    records = []
    for number in range(1, 7):
        predictions, truth = scene(rng, classes=2)
        records.append(record(predictions, with_crowds(truth, scene(rng, classes=2)[1]), number))
    figures = headline(records)
    ResultFilesWriter(tmp_path).write(records, None, {"initial": figures})
    document = json.loads((tmp_path / "ground_truth.json").read_text())
    crowds = sum(annotation["iscrowd"] for annotation in document["annotations"])
    assert crowds == sum(len(item.crowds) for item in records) > 0
    assert json.loads((tmp_path / "metrics.json").read_text())["instances"] == len(document["annotations"]) - crowds
    for kind, figure in (("bbox", "BoxAP"), ("segm", "MaskAP")):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(tmp_path / "ground_truth.json"))
            evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "predictions.json")), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        assert figures[figure] == pytest.approx(100 * evaluation.stats[0], abs=1e-9)
    # What is read back is what was scored.
    initial, _ = read_image_records(tmp_path)
    assert headline(initial) == pytest.approx(figures)
    assert [len(item.crowds) for item in initial] == [len(item.crowds) for item in records]
