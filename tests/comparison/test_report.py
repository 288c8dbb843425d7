"""The report of runs made by hand: cells, footnotes, files, terminal, and what a W&B run is sent."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kemr_lightning.comparison.models import Times, times_of
from kemr_lightning.comparison.report import (
    Comparison,
    difference_tables,
    footnotes,
    log_to_wandb,
    main_rows,
    markdown,
    print_report,
    write_comparison,
)
from kemr_lightning.comparison.scores import OWN, Score, Threshold, score_systems
from kemr_lightning.comparison.settings import CompareSettings
from kemr_lightning.comparison.systems import System, baselines_of, systems_of
from kemr_lightning.core.run_directory import COMPARISON, COMPARISON_TABLE, COMPARISON_TEXT, FIGURES, INSTANCES
from kemr_lightning.metrics.bootstrap import Difference
from kemr_lightning.output.wandb_run import RunLogger, finish_run
from tests.comparison.helpers import Fixed, made_run, noisy_records
from tests.helpers import read_run

TIMING = {
    "training": {"seconds": 600.0, "cpu_seconds": 900.0, "steps": 100},
    "test": {"seconds_per_image": 0.5, "refinement_seconds_per_image": 0.25},
}
SETTINGS = CompareSettings(resamples=20, crops=7)


def rows() -> list[System]:
    detector = Fixed("mask_rcnn", parameters=1_234_567)
    plain = made_run(
        noisy_records(0, quality=0.6), directory="runs/m", timing={**TIMING, "test": {}}, detector=detector
    )
    return systems_of([plain, made_run(noisy_records(0), noisy_records(1, quality=0.9), "cascade", "runs/k", TIMING)])


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    systems = rows()
    thresholds = {row.name: Threshold(0.4, 88.0, 3) for row in systems[:2]}
    return Comparison(
        score_systems(systems, baselines_of(systems), [0, 0, 1, 1, 2, 2], thresholds, SETTINGS),
        {row.name: times_of(row) for row in systems},
        SETTINGS,
        3,
        ["seed differs: 0 (Mask R-CNN), 1 (KEMR-Net)"],
        ["KEMR-Net: seed 0"],
        "ask for it",
    )


def test_main_table(comparison: Comparison) -> None:
    table = main_rows(comparison)
    assert [row[0] for row in table] == ["Mask R-CNN", "Cascade Mask R-CNN", "KEMR-Net"]
    assert [row[-3] for row in table] == ["1.23 M", "0.00 M", "0.00 M"]
    assert [row[-2] for row in table] == ["10.0 min"] * 3
    assert [row[-1] for row in table] == ["–", "0.50 s", "0.75 s"]
    assert table[2][6] == "–"  # no threshold of its own
    assert table[0][2] == f"{comparison.scores[0].figures['MaskAP']:.2f}"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (-0.5, 2.0, "+1.50 [-0.50, +2.00]"),
        (0.5, 2.0, "**+1.50 [+0.50, +2.00]**"),
        (-2.0, -0.5, "**+1.50 [-2.00, -0.50]**"),
        (float("nan"), float("nan"), "–"),
    ],
)
def test_differences_are_bold_where_zero_is_left_out(low: float, high: float, shown: str) -> None:
    found = Difference(1.0, 2.5, 1.5, low, high, 0.9, 20)
    score = Score(rows()[0], {}, None, 0.0, {"X": {"MaskAP": found}})
    cells = difference_tables(Comparison([score], {}, CompareSettings(), 1))["X"][0]
    assert cells == ["Mask R-CNN", "–", shown, "–", "–", "–", "–"]


def test_footnotes_begin_with_what_is_not_alike(comparison: Comparison) -> None:
    lines = footnotes(comparison)
    assert lines[0] == "**Not alike:** seed differs: 0 (Mask R-CNN), 1 (KEMR-Net)."
    assert "3 slides" in lines[1]
    assert any(line.startswith(f"{OWN} of Mask R-CNN: score ≥ 0.40 (validation F1 88.00, 3 images)") for line in lines)
    assert any(line.startswith(f"{OWN} of KEMR-Net: no threshold") for line in lines)
    assert lines[-2] == "–: not recorded by the run; ask for it."
    assert lines[-1] == "KEMR-Net: seed 0."


def test_many_slides_and_all_times_need_no_footnote() -> None:
    row = rows()[0]
    found = Comparison([Score(row, {})], {row.name: Times(1, 1, 1, None, True)}, CompareSettings(), 15)
    lines = footnotes(found)
    assert not any("Few slides" in line or line.startswith("–") for line in lines)
    assert any("measured side by side" in line for line in lines)


def test_files(comparison: Comparison, tmp_path: Path) -> None:
    write_comparison(comparison, tmp_path)
    text = (tmp_path / COMPARISON_TEXT).read_text()
    assert text == markdown(comparison)
    assert "## Difference to Mask R-CNN" in text
    assert "## Difference to Cascade Mask R-CNN" in text
    with (tmp_path / COMPARISON_TABLE).open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["system"] for row in table] == ["Mask R-CNN", "Cascade Mask R-CNN", "KEMR-Net"]
    found = comparison.scores[2].differences["Mask R-CNN"]["MaskAP"]
    assert float(table[2]["MaskAP"]) == comparison.scores[2].figures["MaskAP"]
    assert float(table[2]["MaskAP - Mask R-CNN"]) == found.difference
    assert float(table[2]["MaskAP - Mask R-CNN low"]) == found.low
    assert table[0]["MaskAP - Mask R-CNN"] == ""
    assert table[0]["parameters"] == "1234567"
    assert table[2]["inference seconds per image"] == "0.75"
    assert list(table[0])[-2:] == ["run", "checkpoint"]
    content = json.loads((tmp_path / COMPARISON).read_text())
    assert content["settings"] == {"ia_score": 0.5, "ia_iou": 0.5, "resamples": 20, "level": 0.95, "seed": 0}
    assert content["systems"][2]["differences"]["Mask R-CNN"]["MaskAP"]["high"] == found.high
    assert content["systems"][2]["own_threshold"] is None
    with (tmp_path / INSTANCES).open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == content["instances"] == 36
    assert sorted(path.name for path in (tmp_path / FIGURES).iterdir()) == ["ap_over_iou.png", "precision_recall.png"]


def test_the_terminal_shows_all_of_it(comparison: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    print_report(comparison)
    shown = capsys.readouterr().out
    assert "difference to Cascade Mask R-CNN" in shown
    assert "Not alike: seed" in shown
    assert "**" not in shown


def test_a_wandb_run_has_the_table_the_pictures_and_the_figures(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    write_comparison(comparison, tmp_path)
    logger = RunLogger(project="test", save_dir=tmp_path)
    log_to_wandb(logger.experiment, tmp_path)
    finish_run({})
    run = read_run(tmp_path)
    assert run.values("compare/table/_type") == ["table-file"]
    (path,) = run.values("compare/table/path")
    (media,) = (tmp_path / "wandb").glob(f"offline-run-*/files/{path}")
    content = json.loads(media.read_text())
    place = {name: position for position, name in enumerate(content["columns"])}
    assert [row[place["system"]] for row in content["data"]] == ["Mask R-CNN", "Cascade Mask R-CNN", "KEMR-Net"]
    systems = json.loads((tmp_path / COMPARISON).read_text())["systems"]
    for row, expected in zip(content["data"], systems, strict=True):
        assert float(row[place["MaskAP"]]) == expected["figures"]["MaskAP"]
        for name, value in expected["figures"].items():
            assert run.summary[f"compare/{expected['name']}/{name}"] == pytest.approx(value)
    for stem in ("precision_recall", "ap_over_iou"):
        assert run.values(f"compare/{stem}/_type") == ["image-file"]
