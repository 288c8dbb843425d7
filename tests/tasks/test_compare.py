"""``task=compare`` as a user runs it: three trainings, a table; the same command again; finished runs; refusals."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from kemr_lightning.core.overrides import shell_word
from kemr_lightning.tasks import compare as task
from kemr_lightning.training.checkpoint import load_module
from tests.conftest import compose, run_task
from tests.test_run import command

EXPERIMENTS = "experiments=[mask_rcnn_tiny,blendmask_tiny,kemr_tiny]"
TINY = (
    "data=synthetic",
    "data.size=[128,96]",
    "data.count=4",
    "data.train_images=2",
    "data.val_images=2",
    "data.test_images=3",
    "data.augmentation.crop_size=[96,96]",
    "trainer.max_steps=2",
    "callbacks.figures=null",
    "compare.resamples=20",
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory and the output of a comparison of three experiments over two steps."""
    folder = tmp_path_factory.mktemp("compare") / "a b"
    done = command(
        "task=compare",
        EXPERIMENTS,
        *TINY,
        "compare.time_images=1",
        f"hydra.run.dir='{folder}'",
        cwd=folder.parent,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout + done.stderr


def test_the_table_has_a_row_for_every_system(compared: tuple[Path, str]) -> None:
    folder, output = compared
    with (folder / "comparison.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["system"] for row in rows] == ["Mask R-CNN", "BlendMask", "Cascade Mask R-CNN", "KEMR-Net"]
    assert all(float(row["training seconds"]) > 0 for row in rows)
    assert all(float(row["inference seconds per image"]) > 0 for row in rows)
    assert all(int(row["parameters"]) > 100_000 for row in rows)
    for name, group in (("mask_rcnn_tiny", "initial"), ("blendmask_tiny", "initial"), ("kemr_tiny", "refined")):
        metrics = json.loads((folder / "runs" / name / "metrics.json").read_text())[group]
        row = next(item for item in rows if item["run"].endswith(name) and item["system"] != "Cascade Mask R-CNN")
        assert [float(row[key]) for key in metrics] == pytest.approx(list(metrics.values()))
    text = (folder / "comparison.md").read_text()
    assert "Not alike" not in text
    assert "measured side by side" in text
    assert "difference to Mask R-CNN" in output
    for name in ("precision_recall", "ap_over_iou"):
        assert (folder / "figures" / f"{name}.png").is_file()
    assert list((folder / "wandb").glob("offline-run-*/*.wandb"))


def test_the_same_command_trains_nothing_again(compared: tuple[Path, str]) -> None:
    folder, _ = compared
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/checkpoints/*")}
    done = command(
        "task=compare",
        EXPERIMENTS,
        *TINY,
        "compare.time_images=1",  # the table is written anew, and other tests read it
        "logger=csv",
        f"hydra.run.dir='{folder}'",
        cwd=folder.parent,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("is finished") == 3
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/checkpoints/*")} == before
    changed = command(
        "task=compare",
        EXPERIMENTS,
        *TINY,
        "seed=1",
        f"hydra.run.dir='{folder}'",
        cwd=folder.parent,
    )
    assert changed.returncode == 2
    assert (
        f"hydra.run.dir={folder} has a training of mask_rcnn_tiny with other settings: seed differs" in changed.stderr
    )


def test_finished_runs_are_read(compared: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = compared
    kemr = folder / "runs" / "kemr_tiny"
    run_dir = run_task(
        tmp_path / "run", "task=compare", f"runs=['{kemr}']", "compare.resamples=5", "logger=csv", "paths.store=null"
    )
    with (run_dir / "comparison.csv").open(newline="") as stream:
        assert [row["system"] for row in csv.DictReader(stream)] == ["Cascade Mask R-CNN", "KEMR-Net"]


def test_own_thresholds_are_found_on_stored_predictions(
    compared: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kemr = compared[0] / "runs" / "kemr_tiny"
    words = ("task=compare", f"runs=['{kemr}']", "compare.resamples=5", "logger=csv", f"paths.store='{tmp_path / 's'}'")
    with caplog.at_level(logging.INFO):
        first = run_task(tmp_path / "first", *words)
        assert "2 images computed and stored" in caplog.text
        assert "reused from" not in caplog.text
        file = kemr / "checkpoints" / "best.ckpt"
        monkeypatch.setattr(
            type(load_module(file).detector), "forward", lambda *_: pytest.fail("a forward pass was run")
        )
        second = run_task(tmp_path / "second", *words)
    assert "initial predictions of 2 images reused from" in caplog.text
    assert (second / "comparison.csv").read_text() == (first / "comparison.csv").read_text()


def test_an_unknown_experiment_is_named(tmp_path: Path) -> None:
    done = command("task=compare", "experiments=[none_such]", *TINY, f"hydra.run.dir='{tmp_path / 'c'}'", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "none_such" in line
    assert "mask_rcnn_tiny" in line  # one that there is


def test_refusals(
    compared: tuple[Path, str], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = compared[0] / "runs" / "mask_rcnn_tiny"
    for words, said in (
        ((), "one of the two"),
        (("runs=[x,y]", "compare.level=95"), "compare.level=95 is not possible. Give a number between 0 and 1"),
        (("runs=[x,y]", "compare.cascade_from_kemr=perhaps"), "compare.cascade_from_kemr=perhaps is unknown. Use one"),
        ((f"runs=['{mask}']",), "nothing to compare"),
        ((f"runs=['{mask}','{trained}']",), "different images"),
        ((f"runs=['{tmp_path / 'none'}']",), "not a directory"),
    ):
        with pytest.raises(SystemExit) as caught:
            run_task(tmp_path / "run", "task=compare", *words)
        assert caught.value.code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert said in line


def test_an_interrupted_comparison_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    words = SimpleNamespace(job=SimpleNamespace(config_name="config"), overrides=SimpleNamespace(task=[]))
    monkeypatch.setattr(task.HydraConfig, "get", lambda: words)
    monkeypatch.setattr(task, "compose_experiments", lambda *_: {})
    monkeypatch.setattr(task, "train_missing", interrupted)
    directory = tmp_path / "a b, c=1 (new)"
    with pytest.raises(KeyboardInterrupt):
        task._trained(compose("task=compare", "experiments=[kemr_tiny]", "data=synthetic"), directory)
    again = shell_word("hydra.run.dir", directory)
    assert caplog.messages == [f"interrupted. The same command with {again} resumes it"]
