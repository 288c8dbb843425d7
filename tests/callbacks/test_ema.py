"""Who sees averaged weights and who the trained ones, and whether a resumed run continues as if it had not stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from kemr_lightning.callbacks.ema import EMACallback
from kemr_lightning.core.errors import SettingError
from tests.callbacks.helpers import FakeModule, loader, samples, trainer


class NormModule(FakeModule):
    """With BatchNorm, whose statistics are float buffers and whose counter is an integer one."""

    def __init__(self, found: dict[int, Any]) -> None:
        super().__init__(found)
        self.norm = torch.nn.BatchNorm1d(2)

    def training_step(self, batch: list[Any], batch_idx: int) -> torch.Tensor:
        self.norm(torch.full((4, 2), 5.0) + torch.arange(8).reshape(4, 2))
        return super().training_step(batch, batch_idx)


def fit(
    directory: Path, steps: int, decay: float = 0.6, resume: Path | None = None
) -> tuple[NormModule, pl.Trainer, Any]:
    items, found = samples()
    module = NormModule(found)
    saving = ModelCheckpoint(directory, "step{step}", save_top_k=-1, auto_insert_metric_name=False, save_last=True)
    run = trainer(directory, [EMACallback(decay), saving], enable_checkpointing=True, max_epochs=-1, max_steps=steps)
    run.fit(module, loader(items), loader(items), ckpt_path=resume, weights_only=True)
    return module, run, items


def expected_average(steps: int, decay: float) -> tuple[float, float]:
    """The weight w learns as w <- w - 0.1 * 2 (w - 1) from 0; its average by the formula."""
    weight, average = 0.0, None
    for step in range(steps):
        weight += 0.2 * (1 - weight)
        if average is None:
            average = weight
        else:
            kept = min(decay, (1 + step) / (10 + step))
            average = kept * average + (1 - kept) * weight
    assert average is not None
    return weight, average


def test_validation_checkpoint_and_test_use_the_average(tmp_path: Path) -> None:
    module, run, items = fit(tmp_path, 8)
    weight, average = expected_average(8, 0.6)
    assert weight != pytest.approx(average, abs=1e-3)
    assert module.seen[-1] == pytest.approx(average, abs=1e-6)  # the last validation
    assert module.weight.item() == pytest.approx(average, abs=1e-6)  # after the run
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert float(content["state_dict"]["weight"]) == pytest.approx(average, abs=1e-6)
    assert float(content["current_model_state"]["weight"]) == pytest.approx(weight, abs=1e-6)
    assert content["state_dict"]["norm.num_batches_tracked"] == 8
    assert (
        content["state_dict"]["norm.running_mean"].mean() < content["current_model_state"]["norm.running_mean"].mean()
    )
    _, earlier = expected_average(4, 0.6)
    for task in (run.test, run.validate):
        module.seen.clear()
        task(module, loader(items), verbose=False, ckpt_path=tmp_path / "step4.ckpt", weights_only=True)
        assert module.seen[0] == pytest.approx(earlier, abs=1e-6)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    fit(tmp_path / "first", 4)
    resumed, _, _ = fit(tmp_path / "second", 8, resume=tmp_path / "first" / "last.ckpt")
    whole, _, _ = fit(tmp_path / "whole", 8)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_decay_has_a_range(decay: float) -> None:
    with pytest.raises(SettingError, match=rf"^decay={decay} is not at least 0 and below 1\. Choose a value"):
        EMACallback(decay)
