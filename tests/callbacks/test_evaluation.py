"""One set of hooks for validation and test, called in Lightning's order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
from typing_extensions import override

from kemr_lightning.callbacks.evaluation import EvaluationCallback, Stage, batches_of, run_directory_of
from tests.callbacks.helpers import FakeModule, loader, samples, trainer


class Recording(EvaluationCallback):
    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    @override
    def on_evaluation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: Stage) -> None:
        self.calls.append((stage, "start", batches_of(trainer, stage)))

    @override
    def on_evaluation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, stage: Stage
    ) -> None:
        self.calls.append((stage, batch_idx, [sample.image_id for sample in batch], len(outputs)))

    @override
    def on_evaluation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: Stage) -> None:
        self.calls.append((stage, "end"))


@pytest.mark.parametrize("stage", ["val", "test"])
def test_hooks_of_an_epoch(tmp_path: Path, stage: str) -> None:
    items, found = samples(3)
    callback = Recording()
    with_callback = trainer(tmp_path, [callback])
    run = with_callback.validate if stage == "val" else with_callback.test
    run(FakeModule(found), loader(items), verbose=False)
    assert callback.calls == [(stage, "start", 2), (stage, 0, [1, 2], 2), (stage, 1, [3], 1), (stage, "end")]


def test_the_callbacks_own_directory_comes_first(tmp_path: Path) -> None:
    made = trainer(tmp_path / "default", [])
    assert run_directory_of(made, None) == tmp_path / "default"
    assert run_directory_of(made, str(tmp_path / "own")) == tmp_path / "own"
