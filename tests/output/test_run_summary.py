"""The table, the places and the commands at the end of a run."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from kemr_lightning.core.files import write_json
from kemr_lightning.output.run_summary import print_summary

FIRST = {"BoxAP": 70.0, "MaskAP": 60.123, "AP50": 95.0, "AP75": 80.0, "IA": 90.0}
SECOND = {"BoxAP": 70.0, "MaskAP": 62.0, "AP50": 94.5, "AP75": 82.0, "IA": 91.0}


NEXT = [("score the model", ["python", "run.py", "task=test", "data.root=my data"])]


def printed(directory: Path) -> str:
    console = Console(record=True, width=200, highlight=False, soft_wrap=True, quiet=False)
    with console.capture() as capture:
        print_summary(directory, NEXT, console)
    return capture.get()


def test_figures_places_and_commands(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", {"images": 3, "instances": 120, "initial": FIRST, "refined": SECOND})
    write_json(tmp_path / "metrics_extended.json", {"initial": {"thresholds": {"ia_score": 0.5, "ia_iou": 0.5}}})
    (tmp_path / "figures").mkdir()
    text = printed(tmp_path)
    assert "3 images, 120 annotated instances" in text
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert lines["MaskAP"] == ["60.12", "62.00", "+1.88"]
    assert lines["AP50"] == ["95.00", "94.50", "-0.50"]
    assert lines["BoxAP"] == ["70.00", "70.00", "+0.00"]
    assert "IA (score ≥ 0.5, IoU ≥ 0.5)" in text
    assert "figures/" in text
    assert "predictions.json" not in text
    assert "score the model" in text
    assert "python run.py task=test 'data.root=my data'" in text


def test_figures_of_classes(tmp_path: Path) -> None:
    row = {"annotated": 3, "predicted": 2, "BoxAP": 50.0, "MaskAP": 40.0, "AP50": 60.0, "AP75": 30.0, "IA": 66.7}
    before = {"1": row, "X": {**row, "MaskAP": None}}
    after = {"1": {**row, "MaskAP": 45.25}, "X": {**row, "MaskAP": None}}
    write_json(tmp_path / "metrics.json", {"images": 3, "instances": 6, "initial": FIRST, "refined": SECOND})
    write_json(tmp_path / "metrics_extended.json", {"initial": {"per_class": before}, "refined": {"per_class": after}})
    lines = [line.split() for line in printed(tmp_path).splitlines()]
    assert ["classes"] in lines
    assert ["1", "3", "2", "50.00", "40.00", "45.25", "66.70"] in lines
    assert ["X", "3", "2", "50.00", "–", "–", "66.70"] in lines
    write_json(tmp_path / "metrics_extended.json", {"initial": {"per_class": before}})
    assert ["1", "3", "2", "50.00", "40.00", "66.70"] in [line.split() for line in printed(tmp_path).splitlines()]
    write_json(tmp_path / "metrics_extended.json", {"initial": {"per_class": {"chromosome": row}}})
    assert ["classes"] not in [line.split() for line in printed(tmp_path).splitlines()]


def test_without_refinement_and_without_masks(tmp_path: Path) -> None:
    figures = {**FIRST, "MaskAP": None}
    write_json(tmp_path / "metrics.json", {"images": 1, "instances": 2, "initial": figures})
    text = printed(tmp_path)
    assert "refined" not in text
    assert "–" in text


def test_without_figures_there_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "labelme").mkdir()
    text = printed(tmp_path)
    assert "labelme/" in text
    assert "BoxAP" not in text


def test_a_test_that_finds_nothing_says_what_may_be_wrong(tmp_path: Path) -> None:
    for figure, said in ((0.0, True), (1.0, False)):
        metrics = {"images": 3, "instances": 120, "initial": {**FIRST, "AP50": figure}}
        write_json(tmp_path / "metrics.json", metrics)
        assert ("bright on dark" in printed(tmp_path)) == said
