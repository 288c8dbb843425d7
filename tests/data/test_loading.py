"""Training samples before and after an interruption are together those of an uninterrupted training."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import Dataset

from kemr_lightning.callbacks.save_checkpoints import CheckpointCallback
from kemr_lightning.core.instances import Sample
from kemr_lightning.data.loading import TrainingLoader, evaluation_loader, killed_worker
from kemr_lightning.data.samplers import EpochSampler, Share

LENGTH, BATCH = 11, 2
"""Five whole batches an epoch."""


class Names(Dataset[Sample]):
    """Samples whose names say which items were requested."""

    def __getitem__(self, key: Any) -> Sample:
        return Sample(torch.zeros((1, 1), dtype=torch.uint8), str(key), 1)


class Listener(pl.LightningModule):
    """Remembers what it is shown; fails after this many steps."""

    def __init__(self, stop: int | None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.stop = stop
        self.seen: list[str] = []

    def training_step(self, batch: list[Sample], batch_idx: int) -> torch.Tensor:
        if self.global_step == self.stop:
            raise RuntimeError("power cut")
        self.seen += [sample.name for sample in batch]
        return (self.weight**2).sum()

    def validation_step(self, batch: list[Sample], batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log("figure", -float(self.global_step))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(
    directory: Path, workers: int = 0, stop: int | None = None, resume: Path | None = None, **options: Any
) -> list[str]:
    """What is seen in 13 steps, or until it stops."""
    module = Listener(stop)
    saving = CheckpointCallback(directory, "best", monitor="figure", mode="max", save_last=True)
    run = pl.Trainer(
        accelerator="cpu",
        callbacks=[saving],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        max_steps=13,
        **options,
    )
    loader = TrainingLoader(Names(), EpochSampler(LENGTH, seed=3), BATCH, workers)
    try:
        run.fit(module, loader, evaluation_loader(Names(), 1, Share()), ckpt_path=resume, weights_only=True)
    except RuntimeError as error:
        if "power cut" not in str(error):
            raise
    return module.seen


@pytest.mark.parametrize(
    ("interval", "stop", "saved"),
    [(4, 6, 4), (4, 10, 8), (5, 7, 5)],
    ids=["first epoch", "second epoch", "at the end of an epoch"],
)
def test_a_resumed_training_sees_what_is_left(tmp_path: Path, interval: int, stop: int, saved: int) -> None:
    options: dict[str, Any] = {"max_epochs": -1, "check_val_every_n_epoch": None, "val_check_interval": interval}
    whole = train(tmp_path / "whole", **options)
    assert len(whole) == len(set(whole)) == 13 * BATCH
    before = train(tmp_path / "cut", stop=stop, **options)
    assert before == whole[: stop * BATCH]
    after = train(tmp_path / "cut", resume=tmp_path / "cut" / "last.ckpt", **options)
    assert after == whole[saved * BATCH :]


def test_a_resumed_training_with_workers_sees_what_is_left(tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_epochs": -1, "check_val_every_n_epoch": None, "val_check_interval": 4}
    whole = train(tmp_path / "whole", **options)
    train(tmp_path / "cut", stop=9, **options)
    after = train(tmp_path / "cut", workers=1, resume=tmp_path / "cut" / "last.ckpt", **options)
    assert after == whole[8 * BATCH :]


def test_a_state_of_another_epoch_skips_nothing() -> None:
    loader = TrainingLoader(Names(), EpochSampler(LENGTH, seed=3), BATCH)
    loader.order.set_epoch(1)
    everything = [sample.name for batch in loader for sample in batch]
    loader.load_state_dict({"epoch": 0, "batches": 3})
    assert [sample.name for batch in loader for sample in batch] == everything
    assert loader.state_dict() == {"epoch": 1, "batches": 5}


def names(batches: Iterable[list[Sample]]) -> list[str]:
    return [sample.name for batch in batches for sample in batch]


@pytest.mark.parametrize(("length", "batches"), [(11, [2] * 5), (10, [2] * 5), (1, [1])])
def test_incomplete_batches_are_dropped_unless_there_is_no_other(length: int, batches: list[int]) -> None:
    loader = TrainingLoader(Names(), EpochSampler(length, seed=0), BATCH)
    assert [len(batch) for batch in loader] == batches
    assert len(loader) == len(batches)


def test_every_image_is_evaluated_once_and_alone() -> None:
    loaders = [evaluation_loader(Names(), 7, Share(rank, 3)) for rank in range(3)]
    assert all(len(batch) == 1 for loader in loaders for batch in loader)
    assert names(loaders[1]) == ["1", "4"]
    assert sorted(name for loader in loaders for name in names(loader)) == [str(number) for number in range(7)]


def test_a_state_is_used_once() -> None:
    loader = TrainingLoader(Names(), EpochSampler(LENGTH, seed=3), BATCH)
    everything = names(loader)
    loader.load_state_dict({"epoch": 0, "batches": 3})
    assert names(loader) == everything[6:]
    assert loader.state_dict() == {"epoch": 0, "batches": 5}
    assert names(loader) == everything


class _Deadly(torch.utils.data.Dataset[int]):
    """Its third item ends the process that loads it."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index == 2 and self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if index == 2:
            os._exit(3)
        return index


@pytest.mark.parametrize(("how", "told"), [("kill", "killed by signal: Killed"), ("exit", "exited unexpectedly")])
def test_a_dead_worker_is_told_in_one_line(how: str, told: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        list(torch.utils.data.DataLoader(_Deadly(how), num_workers=1, timeout=20))
    assert killed_worker(caught.value) == f"a worker process that loads images died ({told})"
    wrapped = ValueError("in a task")
    wrapped.__cause__ = caught.value
    assert killed_worker(wrapped) is not None
    assert killed_worker(RuntimeError("shapes do not match")) is None
