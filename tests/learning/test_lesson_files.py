from __future__ import annotations

import csv
import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from kemr_lightning.learning.fit_crf import Fit
from kemr_lightning.learning.learn import Lesson
from kemr_lightning.learning.lesson_files import write_lesson
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.knowledge import Knowledge, from_params
from tests.learning.helpers import experiences

FIT = Fit(CRFParams(2.0, 9.0, 3.0, 3.0, 0.1), 0.8, [(0, float("nan"), 0.7), (8, 0.5, 0.8)])
FIGURES = {
    "crf, free": {"iou_before": 0.7, "iou_after": 0.75, "gained": 0.5, "lost": 0.125},
    "initial masks of val images": {"images": 3, "iou_before": 0.7},
}


def lesson() -> Lesson:
    knowledge = replace(from_params(FIT.params, {"data": "rods"}), experiences=experiences(40))
    return Lesson(knowledge, {"crf": [FIT, FIT]}, FIGURES, [(0, 1, 0.9), (-1, 1, 0.8)])


def test_files_of_a_lesson(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        write_lesson(lesson(), tmp_path)
    knowledge = Knowledge.load(tmp_path / "knowledge.safetensors")
    assert knowledge.actions[0].params == FIT.params
    assert (tmp_path / "knowledge.txt").read_text() == knowledge.describe() + "\n"
    assert json.loads((tmp_path / "learn.json").read_text()) == FIGURES
    with (tmp_path / "learn.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [tuple(row.values())[:3] for row in rows] == [
        ("evidence", "0", "1"),
        ("evidence", "-1", "1"),
        *(("crf", rank, step) for rank in ("0", "1") for step in ("0", "8")),
    ]
    assert (rows[0]["loss"], rows[0]["iou"]) == ("0.9", "")
    assert (rows[-1]["loss"], rows[-1]["iou"]) == ("0.5", "0.8")
    for name in ("learning.png", "states.png"):
        assert (tmp_path / "figures" / name).stat().st_size > 1000
    assert "mean IoU 0.7000 -> 0.7500, 50.0 % gain more than 0.02, 12.5 % lose more" in caplog.text
    assert "initial masks of val images: mean IoU 0.7000" in caplog.text


def test_without_experiences_no_states_are_drawn(tmp_path: Path) -> None:
    write_lesson(replace(lesson(), knowledge=from_params(FIT.params)), tmp_path)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["learning.png"]
