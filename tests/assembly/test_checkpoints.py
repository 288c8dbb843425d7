"""Which file ``ckpt=FILE``, ``last`` and ``best`` mean."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import DictConfig

from kemr_lightning.assembly import checkpoints
from kemr_lightning.core.errors import UserError
from kemr_lightning.training.weights_file import SHIPPED
from tests.conftest import compose


def checkpoint(run: Path, age: float, name: str = "best", root: str | None = None) -> Path:
    """An empty checkpoint of a run, made at a time, with the configuration of a training on ``root``."""
    file = run / "checkpoints" / f"{name}.ckpt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.utime(file, (age, age))
    if root is not None:
        target = "kemr_lightning.data.datamodule.SegmentationDataModule"
        (run / "config.yaml").write_text(f"data:\n  _target_: {target}\n  root: {root}\n")
    return file


def config_of(tmp_path: Path, *overrides: str) -> DictConfig:
    config = compose(f"paths.runs='{tmp_path / 'runs'}'", *overrides)
    config.paths.run_dir = str(tmp_path / "run")
    return config


def test_a_file_is_itself_and_nothing_is_nothing(tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "elsewhere", 1)
    assert checkpoints.find_checkpoint(config_of(tmp_path, f"ckpt='{file}'")) == file
    assert checkpoints.find_checkpoint(config_of(tmp_path)) is None
    with pytest.raises(UserError, match=r"ckpt=gone\.ckpt does not exist"):
        checkpoints.find_checkpoint(config_of(tmp_path, "ckpt=gone.ckpt"))


def test_this_runs_own_comes_before_newer_ones(tmp_path: Path) -> None:
    checkpoint(tmp_path / "runs" / "a", 2, "last")
    own = checkpoint(tmp_path / "run", 1, "last")
    assert checkpoints.find_checkpoint(config_of(tmp_path, "task=test", "ckpt=last")) == own


def test_a_training_resumes_the_newest_run_on_the_same_data(tmp_path: Path) -> None:
    mine = checkpoint(tmp_path / "runs" / "a", 1, "last", "mine")
    checkpoint(tmp_path / "runs" / "b", 2, "last", "other")
    checkpoint(tmp_path / "runs" / "c", 3, "last")  # without a configuration
    assert checkpoints.find_checkpoint(config_of(tmp_path, "ckpt=last", "data.root=mine")) == mine
    with pytest.raises(UserError, match="no run on this data"):
        checkpoints.find_checkpoint(config_of(tmp_path, "ckpt=last", "data.root=third"))


def test_an_experiment_that_only_tests_takes_the_newest_run_of_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    choices = SimpleNamespace(runtime=SimpleNamespace(choices={"experiment": "chosen"}))
    monkeypatch.setattr(checkpoints.HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(checkpoints.HydraConfig, "get", lambda: choices)
    files = {}
    for age, name in enumerate(("kemr_tiny", "demo")):
        files[name] = tmp_path / "runs" / name / "train" / "1" / "checkpoints" / "best.ckpt"
        files[name].parent.mkdir(parents=True)
        files[name].touch()
        os.utime(files[name], (age, age))

    def found(experiment: str, task: str) -> Path | None:
        config = compose(f"experiment={experiment}", f"task={task}", "ckpt=best", f"paths.runs='{tmp_path / 'runs'}'")
        config.paths.run_dir = str(tmp_path / "run")
        return checkpoints.find_checkpoint(config)

    assert found("kemr_tiny", "test") == files["kemr_tiny"]
    assert found("sigma_sweep", "test") == files["demo"]
    assert "sigma_sweep has no checkpoint of its own" in caplog.text
    with pytest.raises(UserError, match="Train first"):
        found("mask_rcnn_tiny", "train")


def test_other_tasks_use_the_shipped_model_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkpoints.needed_checkpoint(config_of(tmp_path, "task=predict")) == SHIPPED
    assert checkpoints.needed_checkpoint(config_of(tmp_path, "task=predict", "ckpt=pretrained")) == SHIPPED
    monkeypatch.setattr(checkpoints, "SHIPPED", tmp_path / "lost.safetensors")
    with pytest.raises(UserError, match=r"lost\.safetensors is missing from this installation.*ckpt=FILE"):
        checkpoints.needed_checkpoint(config_of(tmp_path, "task=predict"))


def test_a_training_starts_from_a_file_or_the_shipped_model(tmp_path: Path) -> None:
    assert checkpoints.initial_weights(config_of(tmp_path)) is None
    assert checkpoints.initial_weights(config_of(tmp_path, "init=pretrained")) == SHIPPED
    assert checkpoints.initial_weights(config_of(tmp_path, "init=a.ckpt")) == Path("a.ckpt")
