"""Queueing a training again: saved between two steps, Slurm asked, and only under Slurm."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from kemr_lightning.callbacks.requeue import RequeueCallback


class SignalAt(pl.Callback):
    """Slurm's signal in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job whose ``scontrol`` notes what it is asked."""
    program, asked = tmp_path / "bin" / "scontrol", tmp_path / "asked"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> "{asked}"\n[ "$2" = 42 ]\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    return asked


def fit(directory: Path, *callbacks: pl.Callback, steps: int = 5, ckpt: Path | None = None) -> pl.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="cpu",
        callbacks=list(callbacks),
        enable_checkpointing=False,
        default_root_dir=directory,
        limit_val_batches=0,
        **quiet,
    )
    trainer.fit(BoringModel(), ckpt_path=ckpt, weights_only=True)
    return trainer


def test_the_running_step_is_finished_saved_and_the_job_queued_again(slurm: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, SignalAt(2), RequeueCallback(tmp_path))
    assert slurm.read_text() == "requeue 42\n"
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3
    assert fit(tmp_path, RequeueCallback(tmp_path), ckpt=tmp_path / "last.ckpt").global_step == 5
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_training_that_slurm_does_not_take_back_continues(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert fit(tmp_path, SignalAt(2), RequeueCallback(tmp_path)).global_step == 5
    assert slurm.read_text() == "requeue 7\n"
    assert "job 7 cannot be queued again" in caplog.text


def test_nothing_is_installed_outside_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    seen: list[Any] = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            seen.append(signal.getsignal(signal.SIGUSR1))

    fit(tmp_path, RequeueCallback(tmp_path), Look(), steps=1)
    assert seen == [signal.SIG_DFL]
