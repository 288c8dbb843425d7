"""A signal in any step: the training is saved behind it, ends with its code, and goes on without a difference."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from kemr_lightning.callbacks.ema import EMACallback
from kemr_lightning.callbacks.save_checkpoints import CheckpointCallback
from kemr_lightning.callbacks.stopping import StoppingCallback
from kemr_lightning.core.instances import Sample
from kemr_lightning.core.signals import ended_in_order
from kemr_lightning.data.loading import TrainingLoader, evaluation_loader
from kemr_lightning.data.samplers import EpochSampler, Share
from kemr_lightning.output.csv_log import ContinuedCSVLogger
from kemr_lightning.training.checkpoint_files import CheckpointFiles, load_whole

STEPS, INTERVAL = 9, 4


class Names(Dataset[Sample]):
    def __getitem__(self, key: Any) -> Sample:
        return Sample(torch.zeros((1, 1), dtype=torch.uint8), str(key), 1)


class Walk(pl.LightningModule):
    """Its weights depend on the order of all samples and on all random draws; sends itself a signal in a step."""

    def __init__(self, stop: int | None = None, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.stop, self.number = stop, number

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        torch.manual_seed(int(np.random.SeedSequence([3, self.global_step]).generate_state(1)[0]))

    def training_step(self, batch: list[Sample], batch_idx: int) -> torch.Tensor:
        if self.global_step == self.stop:
            os.kill(os.getpid(), self.number)
        shown = sum(hash_of(sample.name) for sample in batch)
        loss = ((self.weight * torch.randn(3) + shown) ** 2).sum()
        self.log("train/loss", loss.detach())
        return loss

    def validation_step(self, batch: list[Sample], batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log("figure", float(self.weight.sum()))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def hash_of(name: str) -> float:
    return sum(map(ord, name)) % 17 / 17


def train(directory: Path, images: int, module: Walk, resume: Path | None = None) -> None:
    checkpoints = directory / "checkpoints"
    run = pl.Trainer(
        accelerator="cpu",
        callbacks=[
            EMACallback(0.9),
            StoppingCallback(checkpoints),
            CheckpointCallback(
                checkpoints, "best", monitor="figure", mode="max", save_last=True, enable_version_counter=False
            ),
        ],
        logger=ContinuedCSVLogger(directory),
        plugins=[CheckpointFiles()],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        max_steps=STEPS,
        max_epochs=-1,
        check_val_every_n_epoch=None,
        val_check_interval=INTERVAL,
        log_every_n_steps=1,
        default_root_dir=directory,
    )
    loader = TrainingLoader(Names(), EpochSampler(images, seed=3), 2)
    with ended_in_order():
        run.fit(module, loader, evaluation_loader(Names(), 2, Share()), ckpt_path=resume, weights_only=True)


def outcome(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": (directory / "metrics.csv").read_text()}
    for name in ("last", "best"):
        content = load_whole(directory / "checkpoints" / f"{name}.ckpt")
        found[f"{name} step"] = content["global_step"]
        found |= {
            f"{name} {key}": str({part: value.tolist() for part, value in content[key].items()})
            for key in ("state_dict", "current_model_state", "averaging_state")
        }
        found |= {f"{name} {key}": str(content[key]) for key in ("optimizer_states", "lr_schedulers")}
    return found


@pytest.mark.parametrize("images", [2, 4, 7, 30], ids=lambda images: f"epochs of {images // 2}")
def test_stopped_in_any_step_and_resumed(tmp_path: Path, images: int) -> None:
    train(tmp_path / "whole", images, Walk())
    expected = outcome(tmp_path / "whole")
    for step in range(STEPS):
        directory = tmp_path / f"stopped{step}"
        with pytest.raises(SystemExit) as caught:
            train(directory, images, Walk(step))
        assert caught.value.code == 143
        last = directory / "checkpoints" / "last.ckpt"
        # A validation that is due comes first, and another step.
        taken = step + 2 if (step + 1) % INTERVAL == 0 else step + 1
        assert load_whole(last)["global_step"] == min(taken, STEPS)
        train(directory, images, Walk(), last)
        assert outcome(directory) == expected, f"stopped in step {step}"


def test_ctrl_c_has_its_own_code(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as caught:
        train(tmp_path, 4, Walk(1, signal.SIGINT))
    assert caught.value.code == 130
    assert load_whole(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 2
    assert signal.getsignal(signal.SIGINT) == before
