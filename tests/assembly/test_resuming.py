"""From which state a training resumes, and from which it does not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from kemr_lightning.assembly.resuming import State, deciding_settings, state_to_resume
from kemr_lightning.core.errors import UserError
from kemr_lightning.training.checkpoint_files import write_checkpoint
from tests.conftest import compose

BASE = ("experiment=kemr_tiny", "data=synthetic")


def config_of(tmp_path: Path, *overrides: str) -> DictConfig:
    config = compose(f"paths.runs='{tmp_path / 'runs'}'", *BASE, *overrides)
    config.paths.run_dir = str(tmp_path / "run")
    config.callbacks = {"ema": config.callbacks.ema, "checkpoint": {"monitor": "val/MaskAP", "mode": "max"}}
    config.trainer.default_root_dir = None
    return config


def save(tmp_path: Path, name: str, step: int, age: float = 0, settings: dict[str, Any] | None = None) -> Path:
    file = tmp_path / "run" / "checkpoints" / f"{name}.ckpt"
    settings = deciding_settings(config_of(tmp_path)) if settings is None else settings
    hyper = {"model": {"_target_": "x"}, "label_names": ["chromosome"]}
    weights = {"weight": torch.zeros(9)}
    write_checkpoint(
        {"state_dict": weights, "hyper_parameters": hyper, "global_step": step, "settings": settings}, file
    )
    os.utime(file, (1e9 + age, 1e9 + age))
    return file


def resumed(tmp_path: Path, *overrides: str) -> State:
    state = state_to_resume(config_of(tmp_path, *overrides))
    assert state is not None
    return state


def test_automatically_where_there_is_a_state_and_anew_where_there_is_none(tmp_path: Path) -> None:
    assert state_to_resume(config_of(tmp_path, "resume=auto")) is None
    assert state_to_resume(config_of(tmp_path)) is None
    best = save(tmp_path, "best", 4)
    assert resumed(tmp_path, "resume=auto").path == best
    last = save(tmp_path, "last", 9, age=-5)
    assert resumed(tmp_path, "resume=auto").path == last
    assert resumed(tmp_path, "resume=auto", "init=start.ckpt", "resume_anyway=true").path == last
    assert state_to_resume(config_of(tmp_path)) is None


@pytest.mark.parametrize("damage", [0, 500])
def test_the_last_whole_one_is_taken_and_said_so(tmp_path: Path, damage: int, caplog: pytest.LogCaptureFixture) -> None:
    best, last = save(tmp_path, "best", 4), save(tmp_path, "last", 9)
    last.write_bytes(last.read_bytes()[:damage])
    caplog.set_level("INFO")
    for words in (["resume=auto"], ["ckpt=last"]):
        caplog.clear()
        assert resumed(tmp_path, *words).path == best
        assert f"{last} is " in caplog.text
        assert f"resuming from {best}, step 4" in caplog.text
    best.unlink()
    with pytest.raises(UserError, match="no whole checkpoint beside it"):
        resumed(tmp_path, "ckpt=last")
    assert state_to_resume(config_of(tmp_path, "resume=auto")) is None


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("seed=1", "seed 0 -> 1"),
        ("optimizer.lr=0.5", r"optimizer\.lr 0\.\d+ -> 0\.5"),
        ("model=mask_rcnn_tiny", r"model\.heads\.variant mmdetection -> unset"),
        ("data.train_images=7", r"data\.train_images 200 -> 7"),
        ("callbacks.ema.decay=0.5", r"callbacks\.ema\.decay 0\.998 -> 0\.5"),
        ("+trainer.accumulate_grad_batches=2", r"trainer\.accumulate_grad_batches unset -> 2"),
    ],
)
def test_another_training_is_refused_unless_told(
    tmp_path: Path, word: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    last = save(tmp_path, "last", 9)
    for how in ("ckpt=last", "resume=auto", f"ckpt='{last}'"):
        with pytest.raises(UserError, match=told):
            resumed(tmp_path, how, word)
    assert resumed(tmp_path, "ckpt=last", word, "resume_anyway=true").path == last
    assert "with other settings" in caplog.text


@pytest.mark.parametrize(
    "word", ["trainer.max_steps=9", "data.num_workers=2", "name=other", "trainer.accelerator=cpu", "logger=csv"]
)
def test_where_how_fast_and_how_long_may_change(tmp_path: Path, word: str) -> None:
    last = save(tmp_path, "last", 9)
    assert resumed(tmp_path, "ckpt=last", word).path == last


def test_a_requeued_job_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert state_to_resume(config_of(tmp_path)) is None
    last = save(tmp_path, "last", 9)
    assert resumed(tmp_path).path == last
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert state_to_resume(config_of(tmp_path)) is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["resume=yes"], "Use auto, or null"),
        (["resume=auto", "ckpt=last"], "both given"),
        (["ckpt=a.ckpt", "init=b.ckpt"], "both given"),
    ],
)
def test_contradictions(tmp_path: Path, words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        resumed(tmp_path, *words)
