"""The findings in the terminal and as JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from kemr_lightning.doctor import AnchorFit, Diagnosis, Finding
from kemr_lightning.doctor.diagnosis_table import (
    LABELS_LISTED,
    becomes,
    diagnosis_document,
    line_of,
    print_diagnosis,
    size_lines,
    write_diagnosis,
)
from tests.doctor.helpers import examined


@pytest.fixture
def diagnosis() -> Diagnosis:
    """Three images in two parts with five findings of three kinds."""
    findings = [
        Finding("broken_file", "b.json", "is [no] JSON"),
        *(Finding("count", f"{number}.png", f"{number} instead of 46") for number in (40, 41, 39)),
        Finding("no_test", "", "there are train and val"),
    ]
    images = [examined(name, part, labels=["1", "X"]) for name, part in (("a", "train"), ("b", "train"), ("c", "val"))]
    fit = AnchorFit([[10.0], [20.0]], [1.0], 0.75, 0.125)
    sizes = {"lengths": [1.0, 2.0, 3.4, 4.0, 5.0]}
    names = {"1": "chromosome", "X": None}
    return Diagnosis(Path("data"), "coco", findings, images, {"1": 4, "X": 1, "?": 1}, names, sizes, fit)


def test_the_document_counts_everything(diagnosis: Diagnosis, tmp_path: Path) -> None:
    write_diagnosis(tmp_path / "doctor.json", diagnosis)
    document = json.loads((tmp_path / "doctor.json").read_text())
    assert document == json.loads(json.dumps(diagnosis_document(diagnosis)))
    assert (document["root"], document["format"], document["images"], document["instances"]) == ("data", "coco", 3, 6)
    assert document["parts"] == {"train": {"images": 2, "instances": 4}, "val": {"images": 1, "instances": 2}}
    assert (document["errors"], document["warnings"], document["notes"]) == (1, 3, 1)
    assert {name: kind["count"] for name, kind in document["kinds"].items()} == {
        "broken_file": 1,
        "count": 3,
        "no_test": 1,
    }
    assert document["labels"] == {
        "1": {"count": 4, "becomes": "chromosome", "mapped": True},
        "X": {"count": 1, "becomes": None, "mapped": True},
        "?": {"count": 1, "becomes": None, "mapped": False},
    }
    assert document["anchors"]["below"] == 0.125
    assert document["counts"] == {"a": 2, "b": 2, "c": 2}
    assert [finding["file"] for finding in document["findings"]] == ["b.json", "40.png", "41.png", "39.png", ""]


def test_boxes_are_rounded(diagnosis: Diagnosis) -> None:
    diagnosis.findings = [Finding("nested", "a", "m", ((1.23456, 2, 3, 4),), (np.zeros((3, 2)),), ("b",))]
    (finding,) = diagnosis_document(diagnosis)["findings"]
    assert finding["boxes"] == [[1.23, 2, 3, 4]]
    assert finding["others"] == ["b"]


@pytest.mark.parametrize(("listed", "shown"), [(0, 0), (2, 2), (9, 3)])
def test_the_terminal_lists_some_of_each_kind(diagnosis: Diagnosis, listed: int, shown: int) -> None:
    stream = io.StringIO()
    print_diagnosis(diagnosis, Path("runs/1"), listed, Console(file=stream, width=200))
    text = stream.getvalue()
    assert "data: 3 annotated images (train 2, val 1), 6 chromosomes" in text
    assert text.count("instead of 46") == shown
    assert ("... 1 more" in text) == (listed == 2)
    assert ("is [no] JSON" in text) == (listed > 0)  # not taken for markup
    assert "1 error, 3 warnings, 1 note" in text
    assert "runs/1/doctor.html" in text


def test_nothing_found_is_said(diagnosis: Diagnosis) -> None:
    diagnosis.findings = []
    stream = io.StringIO()
    print_diagnosis(diagnosis, Path("run"), console=Console(file=stream, width=200))
    assert "nothing found" in stream.getvalue()
    assert not diagnosis.failed


def test_many_labels_are_cut_short(diagnosis: Diagnosis) -> None:
    diagnosis.labels = {f"label {number}": 1 for number in range(LABELS_LISTED + 5)}
    stream = io.StringIO()
    print_diagnosis(diagnosis, Path("run"), console=Console(file=stream, width=200))
    assert "... 5 more" in stream.getvalue()
    assert f"label {LABELS_LISTED}" not in stream.getvalue()


def test_lines_in_words(diagnosis: Diagnosis) -> None:
    assert [line_of(finding) for finding in diagnosis.findings[-2:]] == [
        "39.png: 39 instead of 46",
        "there are train and val",
    ]
    assert [becomes(diagnosis, label) for label in ("1", "X", "?")] == [
        "chromosome",
        "(dropped)",
        "(not in label_map)",
    ]
    assert size_lines(diagnosis) == [
        "length, px: median 3, 5-95 % 1-5",
        "anchors [[10.0], [20.0]], ratios [1.0]: median best IoU 0.75, 12.5% of the boxes below 0.5",
    ]
