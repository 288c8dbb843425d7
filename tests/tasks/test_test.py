"""``task=test`` on its own: the checkpoint needs no other model key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import run_task, write_image


def test_same_figures_as_after_training(trained: Path, labelme_root: Path, tmp_path: Path) -> None:
    file = trained / "checkpoints" / "best.ckpt"
    overrides = ("task=test", f"ckpt='{file}'", f"data.root='{labelme_root}'", "logger=csv", "callbacks.figures=null")
    # A model other than the checkpoint's: the checkpoint decides.
    run_task(tmp_path / "run", *overrides, "model=mask_rcnn_tiny")
    for name in ("metrics.json", "predictions.json", "ground_truth.json"):
        assert json.loads((tmp_path / "run" / name).read_text()) == json.loads((trained / name).read_text())


def test_flat_folder_is_scored_whole_without_refinement(trained: Path, tmp_path: Path) -> None:
    for index in range(3):
        write_image(tmp_path / "images", f"image {index}", index)
    file = trained / "checkpoints" / "best.ckpt"
    overrides = ("task=test", f"ckpt='{file}'", "logger=csv", "callbacks.figures=null", "refine=none")
    run_task(tmp_path / "run", *overrides, f"data.root={tmp_path / 'images'}")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["images"] == 3
    assert "refined" not in metrics


def test_a_checkpoint_is_needed(capsys: pytest.CaptureFixture[str], labelme_root: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        run_task(tmp_path / "run", "task=test", f"data.root='{labelme_root}'")
    assert "ckpt=FILE" in capsys.readouterr().err


@pytest.mark.parametrize("experiment", ["kemr_tiny", "sigma_sweep"])
def test_best_of_the_experiment_is_found(trained: Path, labelme_root: Path, tmp_path: Path, experiment: str) -> None:
    run_dir = trained.parent / "later"
    # paths.runs/NAME is searched: the folder that holds `trained` stands for the experiment's. A sweep only tests, and
    # takes the newest run of any.
    name = trained.parent.name if experiment == "kemr_tiny" else experiment
    overrides = (f"experiment={experiment}", "task=test", "ckpt=best", f"name={name}", "logger=csv")
    overrides += ("callbacks.figures=null", "callbacks.tables=null")
    run_task(tmp_path / "run", *overrides, f"data.root='{labelme_root}'", f"paths.runs='{trained.parent.parent}'")
    assert not run_dir.exists()
    assert (tmp_path / "run" / "metrics.json").is_file()
