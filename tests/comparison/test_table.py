"""The table from runs made by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kemr_lightning.comparison.report import INSTANCES, JSON, MARKDOWN, TABLE, print_report, write_report
from kemr_lightning.comparison.scores import OWN, Score, Settings, score_systems
from kemr_lightning.comparison.systems import System, baselines_of, systems_of
from kemr_lightning.comparison.table import Comparison, difference_tables, footnotes, main_rows, markdown
from kemr_lightning.comparison.threshold import Threshold
from kemr_lightning.comparison.times import times_of
from kemr_lightning.metrics.bootstrap import Difference
from tests.comparison.helpers import CASCADE, MASK_RCNN, made_run, noisy_records

TIMING = {
    "training": {"seconds": 600.0, "cpu_seconds": 900.0, "steps": 100},
    "test": {"seconds_per_image": 0.5, "refinement_seconds_per_image": 0.25},
}


def rows() -> list[System]:
    plain = made_run(noisy_records(0, quality=0.6), None, MASK_RCNN, "runs/m", {**TIMING, "test": {}})
    return systems_of([plain, made_run(noisy_records(0), noisy_records(1, quality=0.9), CASCADE, "runs/k", TIMING)])


def compared(**more: object) -> Comparison:
    systems = rows()
    thresholds = {row.name: Threshold(0.4, 88.0, 3) for row in systems[:2]}
    scores = score_systems(systems, baselines_of(systems), [0, 0, 1, 1, 2, 2], thresholds, Settings(resamples=20))
    return Comparison(
        scores,
        {row.name: times_of(row) for row in systems},
        {row.name: 1_234_567 for row in systems},
        Settings(resamples=20),
        6,
        sum(len(item.truth) for item in systems[0].records),
        3,
        ["seed differs: 0 (Mask R-CNN), 1 (KEMR-Net)"],
        ["KEMR-Net: seed 0"],
    )


def test_times_of_a_row() -> None:
    plain, cascade, kemr = (times_of(row) for row in rows())
    assert (plain.training, plain.training_cpu, plain.inference) == (600.0, 900.0, None)
    assert cascade.inference == 0.5
    assert kemr.inference == 0.75
    measured = times_of(rows()[2], (0.1, 0.02))
    assert measured.inference == pytest.approx(0.12)
    assert measured.measured
    assert times_of(rows()[2], (0.1, None)).inference is None


def test_main_table() -> None:
    table = main_rows(compared())
    assert [row[0] for row in table] == ["Mask R-CNN", "Cascade Mask R-CNN", "KEMR-Net"]
    assert [row[-3] for row in table] == ["1.23 M"] * 3
    assert [row[-2] for row in table] == ["10.0 min"] * 3
    assert [row[-1] for row in table] == ["–", "0.50 s", "0.75 s"]
    assert table[2][6] == "–"  # no threshold of its own
    assert table[0][2] == f"{compared().scores[0].figures['MaskAP']:.2f}"


def test_differences_are_bold_where_zero_is_left_out() -> None:
    def row(low: float, high: float) -> str:
        found = Difference(1.0, 2.5, 1.5, low, high, 0.9, 20)
        score = Score(rows()[0], {}, None, 0.0, {"X": {"MaskAP": found}})
        comparison = Comparison([score], {}, {}, Settings(), 1, 1, 1)
        return difference_tables(comparison)["X"][0][2]

    assert row(-0.5, 2.0) == "+1.50 [-0.50, +2.00]"
    assert row(0.5, 2.0) == "**+1.50 [+0.50, +2.00]**"
    assert row(-2.0, -0.5) == "**+1.50 [-2.00, -0.50]**"
    assert row(float("nan"), float("nan")) == "–"


def test_footnotes_begin_with_what_is_not_alike() -> None:
    lines = footnotes(compared())
    assert lines[0] == "**Not alike:** seed differs: 0 (Mask R-CNN), 1 (KEMR-Net)."
    assert "3 slides" in lines[1]
    assert any(line.startswith(f"{OWN} of Mask R-CNN: score ≥ 0.40 (validation F1 88.00, 3 images)") for line in lines)
    assert any(line.startswith(f"{OWN} of KEMR-Net: no threshold") for line in lines)
    assert lines[-1] == "KEMR-Net: seed 0."


def test_files(tmp_path: Path) -> None:
    comparison = compared()
    write_report(comparison, tmp_path)
    text = (tmp_path / MARKDOWN).read_text()
    assert text == markdown(comparison)
    assert "## Difference to Mask R-CNN" in text
    assert "## Difference to Cascade Mask R-CNN" in text
    with (tmp_path / TABLE).open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["system"] for row in table] == ["Mask R-CNN", "Cascade Mask R-CNN", "KEMR-Net"]
    found = comparison.scores[2].differences["Mask R-CNN"]["MaskAP"]
    assert float(table[2]["MaskAP"]) == comparison.scores[2].figures["MaskAP"]
    assert float(table[2]["MaskAP - Mask R-CNN"]) == found.difference
    assert float(table[2]["MaskAP - Mask R-CNN low"]) == found.low
    assert table[0]["MaskAP - Mask R-CNN"] == ""
    assert table[2]["inference seconds per image"] == "0.75"
    content = json.loads((tmp_path / JSON).read_text())
    assert content["systems"][2]["differences"]["Mask R-CNN"]["MaskAP"]["high"] == found.high
    assert content["systems"][2]["own_threshold"] is None
    with (tmp_path / INSTANCES).open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == comparison.instances
    assert (tmp_path / "figures" / "precision_recall.png").is_file()
    assert (tmp_path / "figures" / "ap_over_iou.png").is_file()


def test_the_terminal_shows_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(compared())
    shown = capsys.readouterr().out
    assert "difference to Cascade Mask R-CNN" in shown
    assert "Not alike: seed" in shown
    assert "**" not in shown
