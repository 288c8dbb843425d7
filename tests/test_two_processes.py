"""A training and a test in two processes are as in one: the learning curve, the scores, the files."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SMALL, hash_seed, run_task, write_image
from tests.test_run import command

STEPS = 6
COUNTS = (("train", 5), ("val", 3), ("test", 3))
"""None of them divides by two."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / "images"
    for part, count in COUNTS:
        for index in range(count):
            write_image(folder / part, f"{part}_{index}", seed=hash_seed(part, index))
    return folder


@pytest.fixture(scope="module")
def runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Run directories of the same training in one process and in two."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["experiment=kemr_tiny", f"data.root='{root}'", *SMALL, f"trainer.max_steps={STEPS}"]
    words += ["trainer.log_every_n_steps=1", "data.epoch_samples=12", f"trainer.val_check_interval={STEPS // 2}"]
    alone = run_task(folder / "alone", *words, "data.batch_size=2")
    together = folder / "together"
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=1")
    done = command(*words, *two, f"hydra.run.dir='{together}'", f"paths.runs='{folder}'", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return alone, together


def column(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row.get(name)]


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def test_the_learning_curve_is_that_of_one_process(runs: tuple[Path, Path]) -> None:
    alone, together = (column(run, "train/loss") for run in runs)
    assert len(alone) == len(together) == STEPS
    # Samples, first weights and normalisation are the same; which boxes are drawn for the losses is not.
    assert together[0] == pytest.approx(alone[0], rel=0.03)
    assert together == pytest.approx(alone, rel=0.25)
    assert sum(together) == pytest.approx(sum(alone), rel=0.05)
    for name in ("train/loss_rpn_objectness", "train/loss_stage1_mask", "train/loss_stage3_mask"):
        assert column(runs[1], name) == pytest.approx(column(runs[0], name), rel=0.1)


def test_scores_are_those_of_one_process(runs: tuple[Path, Path], root: Path, tmp_path: Path) -> None:
    together = runs[1]
    common = ("task=test", "logger=csv", "callbacks.figures=null", "paths.store=null")
    best = f"ckpt='{together / 'checkpoints' / 'best.ckpt'}'"
    alone = run_task(tmp_path / "test", *common, best, f"data.root='{root}'")
    assert len(read(alone, "predictions.json")) > 10
    for name in ("predictions.json", "predictions_initial.json", "ground_truth.json"):
        assert_same(read(together, name), read(alone, name))
    assert_same(read(together, "metrics.json"), read(alone, "metrics.json"), absolute=1e-6, relative=0)
    assert read(together, "metrics.json")["images"] == 3
    # Validation while training: weights and statistics of both processes were those that were saved.
    last = f"ckpt='{together / 'checkpoints' / 'last.ckpt'}'"
    validated = run_task(tmp_path / "val", *common, last, f"data.root='{root / 'val'}'")
    for group, figures in read(validated, "metrics.json").items():
        if isinstance(figures, dict):
            for name, value in figures.items():
                assert column(together, f"val/{group}/{name}")[-1] == pytest.approx(value, abs=1e-6)


def test_fewer_images_than_processes(runs: tuple[Path, Path], root: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for file in (root / "test").glob("test_0.*"):
        shutil.copy(file, tmp_path / "images")
    words = ["task=test", "logger=csv", "callbacks.figures=null", "paths.store=null", f"data.root='{tmp_path}/images'"]
    words.append(f"ckpt='{runs[1] / 'checkpoints' / 'best.ckpt'}'")
    alone = run_task(tmp_path / "alone", *words)
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", f"hydra.run.dir='{tmp_path}/together'")
    done = command(*words, *two, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read(alone, "metrics.json")["images"] == 1
    assert_same(read(tmp_path / "together", "metrics.json"), read(alone, "metrics.json"), absolute=1e-6, relative=0)
    assert_same(read(tmp_path / "together", "predictions.json"), read(alone, "predictions.json"))


def assert_same(one: Any, other: Any, absolute: float = 1e-4, relative: float = 1e-6) -> None:
    """Boxes and scores may differ in what float32 leaves open; figures in percent are asked for more."""
    if isinstance(one, dict):
        assert set(one) == set(other)
        for key in one:
            assert_same(one[key], other[key], absolute, relative)
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right, absolute, relative)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=absolute, rel=relative)
    else:
        assert one == other


def test_only_the_first_process_writes(runs: tuple[Path, Path]) -> None:
    def files(run: Path) -> set[str]:
        found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
        return {name for name in found if not name.startswith(".hydra/") and not name.endswith(".log")}

    alone, together = runs
    assert files(together) == files(alone)
    assert {path.name for path in together.glob("*.log")} <= {"run.log"}
