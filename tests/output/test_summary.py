"""The table, the places and the commands at a run's end."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from kemr_lightning.output.files import write_json
from kemr_lightning.output.summary import next_after, print_summary

FIRST = {"BoxAP": 70.0, "MaskAP": 60.123, "AP50": 95.0, "AP75": 80.0, "IA": 90.0}
SECOND = {"BoxAP": 70.0, "MaskAP": 62.0, "AP50": 94.5, "AP75": 82.0, "IA": 91.0}


def printed(directory: Path, task: str = "train", checkpoint: Path | None = None) -> str:
    console = Console(record=True, width=200, highlight=False, soft_wrap=True, quiet=False)
    with console.capture() as capture:
        print_summary(directory, next_after(task, directory, checkpoint, "my data"), console)
    return capture.get()


def test_figures_places_and_commands(tmp_path: Path) -> None:
    write_json(tmp_path / "metrics.json", {"images": 3, "instances": 120, "initial": FIRST, "refined": SECOND})
    write_json(tmp_path / "metrics_extended.json", {"initial": {"thresholds": {"ia_score": 0.5, "ia_iou": 0.5}}})
    (tmp_path / "figures").mkdir()
    (tmp_path / "wandb" / "offline-run-1").mkdir(parents=True)
    text = printed(tmp_path, checkpoint=tmp_path / "checkpoints" / "best.ckpt")
    assert "3 images, 120 annotated instances" in text
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert lines["MaskAP"] == ["60.12", "62.00", "+1.88"]
    assert lines["AP50"] == ["95.00", "94.50", "-0.50"]
    assert lines["BoxAP"] == ["70.00", "70.00", "+0.00"]
    assert "IA (score ≥ 0.5, IoU ≥ 0.5)" in text
    assert "figures/" in text
    assert "predictions.json" not in text
    assert f"python run.py task=predict ckpt={tmp_path}/checkpoints/best.ckpt data.root=FOLDER" in text
    assert "'data.root=my data'" in text
    assert f"wandb sync {tmp_path}/wandb/offline-run-1" in text


def test_without_refinement_and_without_masks(tmp_path: Path) -> None:
    figures = {**FIRST, "MaskAP": None}
    write_json(tmp_path / "metrics.json", {"images": 1, "instances": 2, "initial": figures})
    text = printed(tmp_path, "test")
    assert "refined" not in text
    assert "–" in text


def test_after_predict_there_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "labelme").mkdir()
    text = printed(tmp_path, "predict")
    assert f"labelme {tmp_path}/labelme" in text
    assert "BoxAP" not in text
