"""A step whose loss or gradient is not finite ends the training, or changes nothing."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kemr_lightning.callbacks.ema import EMACallback
from kemr_lightning.callbacks.finite_loss import SAVED, FiniteLossCallback
from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.training.module import DivergedError, SegmentationModule
from kemr_lightning.training.reproduction import Reproduction
from tests.callbacks.helpers import trainer
from tests.conftest import run_task

GOOD, BAD = 100, 255
"""Grey levels of images; the fault happens on bright ones."""


class Faulty(nn.Module):
    """Learns the mean of images, with batch normalisation; a bright image makes its loss or gradient not finite."""

    kind, max_detections, max_views = "faulty", 10, 1

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.norm = nn.BatchNorm2d(1)
        self.weight = nn.Parameter(torch.full((3,), 0.5))

    def forward(self, images: list[Tensor], targets: list[Instances] | None = None) -> Any:
        shown = torch.stack(images)
        bright = bool((shown.mean(dim=(1, 2, 3)) > 0.9).any())
        if bright and self.fault == "forward":
            shown = shown * torch.tensor(float("nan"))
        spread = self.norm(shown).square().mean() + torch.rand(()) * 0.01
        loss = (self.weight.sum() - shown.mean()).square() + spread
        small = self.weight.square().sum()
        if bright and self.fault == "loss":
            small = small * float("inf")
        if bright and self.fault == "constant":  # a loss that is not finite although every gradient is
            small = small + torch.tensor(float("inf"))
        if bright and self.fault == "gradient":
            small = small + (self.weight[0] - self.weight[0].detach()).sqrt()
        return {"loss_mean": loss, "loss_small": small}

    def detect_in_views(self, image: Tensor, views: int) -> Any:
        raise NotImplementedError


FAULTS = ["forward", "loss", "constant", "gradient"]


def batches(*levels: int) -> DataLoader[Sample]:
    noise = [np.random.default_rng(level).integers(0, 20, (16, 16), dtype=np.uint8) for level in levels]
    images = [torch.from_numpy(n + np.uint8(level - 20)) for n, level in zip(noise, levels, strict=True)]
    items = [Sample(image, f"{n}.png", n + 1) for n, image in enumerate(images)]
    return DataLoader(items, batch_size=1, collate_fn=list)  # type: ignore[arg-type]


def fit(
    directory: Path, levels: list[int], fault: str, skip: int, optimizer: Callable[..., Any] | None = None, **more: Any
) -> tuple[SegmentationModule, pl.Trainer, list[dict[str, Tensor]]]:
    torch.manual_seed(1)
    module = SegmentationModule(Faulty(fault), optimizer or partial(torch.optim.AdamW, lr=0.1, weight_decay=0.1))
    ema = EMACallback(0.5)
    run = trainer(directory, [ema, FiniteLossCallback(directory, skip)], **{"max_epochs": 1} | more)
    average: list[dict[str, Tensor]] = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            model = ema._average_model
            assert model is not None
            average.append({name: value.clone() for name, value in model.state_dict().items()})

    run.callbacks.append(Watch())  # type: ignore[attr-defined]
    run.fit(module, batches(*levels))
    return module, run, average


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_a_skipped_step_changes_nothing(tmp_path: Path, fault: str, clip: float | None) -> None:
    with_it, run, averages = fit(tmp_path / "a", [GOOD, BAD, GOOD - 40, BAD], fault, 2, gradient_clip_val=clip)
    without, other, wanted = fit(tmp_path / "b", [GOOD, GOOD - 40], fault, 0, gradient_clip_val=clip)
    assert run.global_step == 4
    for name, value in without.state_dict().items():
        assert torch.equal(value, with_it.state_dict()[name]), name
    for mine, theirs in zip(averages, [wanted[i] for i in (0, 0, 1, 1)], strict=True):
        assert all(torch.equal(value, mine[name]) for name, value in theirs.items())
    states = [o.optimizers[0].state_dict()["state"] for o in (run, other)]
    assert states[0].keys() == states[1].keys()
    for key, state in states[1].items():
        assert all(torch.equal(value, states[0][key][name]) for name, value in state.items())


@pytest.mark.parametrize("fault", FAULTS)
def test_without_leave_the_training_ends_and_says_where(tmp_path: Path, fault: str) -> None:
    term = {"forward": "loss_mean", "gradient": "the gradient of detector.weight"}.get(fault, "loss_small")
    with pytest.raises(DivergedError) as caught:
        fit(tmp_path, [GOOD, BAD, GOOD], fault, 0)
    file = tmp_path / "non_finite" / "step_1.safetensors"
    assert str(caught.value) == (
        f"step 1: {term} is not finite (images 1.png), saved as {file}. "
        "Lower the learning rate, or add warm-up steps to the schedule, or skip such steps"
    )
    step = Reproduction.load(file)
    assert step.step == 1
    assert step.attempts[0].samples[0].name == "1.png"
    assert int(step.attempts[0].samples[0].image.max()) == BAD - 1
    assert all(bool(torch.isfinite(value).all()) for value in step.weights.values())
    assert step.gradients == (["detector.weight"] if fault == "gradient" else [])


def test_more_faults_than_allowed_end_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    levels = [BAD, GOOD, *[BAD] * (SAVED + 1)]
    with caplog.at_level(logging.WARNING), pytest.raises(DivergedError, match=r"after 4 skipped steps\. Lower"):
        fit(tmp_path, [*levels, GOOD], "loss", SAVED + 1)
    told = [record.getMessage() for record in caplog.records if "not finite" in record.getMessage()]
    assert len(told) == SAVED + 1
    assert told[1].startswith("step 2: loss_small is not finite (images 2.png), saved as ")
    assert told[1].endswith("; skipped, number 2 of at most 4")
    # The first few, and the one that ended it.
    names = sorted(path.name for path in (tmp_path / "non_finite").iterdir())
    assert names == [f"step_{step}.safetensors" for step in (0, 2, 3, 5)]


def test_all_passes_of_an_accumulated_step_are_saved(tmp_path: Path) -> None:
    module, run, _ = fit(tmp_path, [GOOD, GOOD, BAD, GOOD], "loss", 1, accumulate_grad_batches=2)
    assert run.global_step == 2
    step = Reproduction.load(tmp_path / "non_finite" / "step_1.safetensors")
    assert [attempt.samples[0].name for attempt in step.attempts] == ["2.png", "3.png"]
    assert [attempt.finite for attempt in step.attempts] == [False, True]
    alone, _, _ = fit(tmp_path / "alone", [GOOD, GOOD], "loss", 0, accumulate_grad_batches=2)
    assert torch.equal(module.detector.weight, alone.detector.weight)
    assert torch.equal(module.detector.norm.running_mean, alone.detector.norm.running_mean)


def _in_two_processes(rank: int, port: int, folder: str) -> None:
    """One image in three is bright, and only the second process sees it."""
    names = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "NODE_RANK", "LOCAL_RANK")
    os.environ.update(zip(names, ("127.0.0.1", str(port), "2", "0", str(rank)), strict=True))
    levels = ([GOOD, GOOD, GOOD - 40], [GOOD, BAD, GOOD - 40])[rank]
    if rank == 1:
        levels = [level - 10 if level != BAD else level for level in levels]
    more = {"strategy": "ddp", "devices": 2, "plugins": [LightningEnvironment()], "use_distributed_sampler": False}
    module, run, _ = fit(Path(folder), levels, "loss", 1, **more)
    weights = {"weight": module.detector.weight.detach(), "var": module.detector.norm.running_var}
    torch.save(weights | {"steps": torch.tensor(run.global_step)}, f"{folder}/{rank}.pt")
    try:
        fit(Path(folder), levels, "loss", 0, **more)
    except DivergedError as error:
        Path(folder, f"{rank}.txt").write_text(str(error))


@pytest.mark.full
def test_all_processes_skip_and_end_together(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_in_two_processes, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first["weight"], second["weight"])
    assert bool(torch.isfinite(first["weight"]).all())
    assert first["steps"] == second["steps"] == 3
    messages = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert messages[0] == messages[1]
    file = tmp_path / "non_finite" / "step_1_process_1.safetensors"
    assert messages[0].startswith(f"step 1: loss_small is not finite (images 1.png), saved as {file}. Lower")
    assert list(file.parent.iterdir()) == [file]


def test_a_resumed_training_goes_on_counting(tmp_path: Path) -> None:
    before, after = FiniteLossCallback(tmp_path, 3), FiniteLossCallback(tmp_path, 3)
    before.skipped = 2
    after.load_state_dict(before.state_dict())
    assert after.skipped == 2


def test_a_full_disk_does_not_hide_the_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Reproduction, "save", full)
    with pytest.raises(DivergedError, match=r"\(images 0\.png\), could not be saved \(No space left on device\)\. "):
        fit(tmp_path, [BAD], "loss", 0)


@pytest.mark.parametrize("skip", [-1, 1.5, True, "many", None])
def test_skip_is_a_number_of_steps(tmp_path: Path, skip: Any) -> None:
    with pytest.raises(SettingError, match=rf"^skip={'null' if skip is None else skip} is not a number of steps\. "):
        FiniteLossCallback(tmp_path, skip)


def test_a_training_whose_steps_are_too_large_ends_in_one_line(
    tmp_path: Path, labelme_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["experiment=mask_rcnn_tiny", f"data.root='{labelme_root}'", "trainer.max_steps=8", "logger=csv"]
    with pytest.raises(SystemExit, match=r"^2$"):
        run_task(tmp_path / "run", *words, "optimizer.lr=1e30", "scheduler.warmup_fraction=0")
    (file,) = (tmp_path / "run" / "non_finite").iterdir()
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert f", saved as {file}. " in last
    assert last.endswith("(optimizer.lr, scheduler.warmup_fraction, callbacks.finite_loss.skip)")
    replay = Reproduction.load(file).replay()
    assert not all(np.isfinite(list(replay.losses[0].values())))
    assert replay.layer is not None


def test_a_training_may_skip(tmp_path: Path, labelme_root: Path) -> None:
    run = run_task(
        tmp_path / "run",
        *("experiment=mask_rcnn_tiny", f"data.root='{labelme_root}'", "trainer.max_steps=4", "logger=csv"),
        *("optimizer.lr=1e30", "scheduler.warmup_fraction=0", "callbacks.finite_loss.skip=4", "callbacks.figures=null"),
        *("data.augmentation.crop_size=[96,96]", "refine=none"),
    )
    assert len(list((run / "non_finite").iterdir())) == SAVED
    assert (run / "metrics.json").is_file()
