"""Which step each checkpoint file is of, with the settings of `conf/callbacks`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import pytest
import torch

from tests.callbacks.helpers import FakeModule, loader, samples, trainer
from tests.conftest import compose


class FadingModule(FakeModule):
    """Its first validation is its best."""

    def on_validation_epoch_end(self) -> None:
        self.log("val/MaskAP", 100.0 - self.global_step)


def steps_saved(directory: Path, resume: Path | None = None, **options: Any) -> dict[str, int]:
    """Train on two batches an epoch; the step of each file."""
    config = compose(f"paths.run_dir='{directory}'").callbacks.checkpoint
    items, found = samples()
    run = trainer(directory, [hydra.utils.instantiate(config)], enable_checkpointing=True, **options)
    run.fit(FadingModule(found), loader(items), loader(items), ckpt_path=resume, weights_only=True)
    files = sorted((directory / "checkpoints").glob("*.ckpt"))
    return {file.stem: torch.load(file, weights_only=True)["global_step"] for file in files}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(6, {"best": 3, "last": 6}), (8, {"best": 3, "last": 8}), (2, {"last": 2})],
    ids=["validated at its end", "not validated at its end", "never validated"],
)
def test_last_is_the_end_and_best_the_best_of_a_run_in_steps(
    tmp_path: Path, steps: int, expected: dict[str, int]
) -> None:
    interval = {"check_val_every_n_epoch": None, "val_check_interval": 3}
    assert steps_saved(tmp_path, max_epochs=-1, max_steps=steps, **interval) == expected


def test_last_is_the_end_and_best_the_best_of_a_run_in_epochs(tmp_path: Path) -> None:
    assert steps_saved(tmp_path, max_epochs=3) == {"best": 2, "last": 6}


@pytest.mark.parametrize("there", ["first", "second"])
def test_best_is_that_of_the_whole_training_wherever_it_is_resumed(tmp_path: Path, there: str) -> None:
    interval = {"max_epochs": -1, "check_val_every_n_epoch": None, "val_check_interval": 3}
    assert steps_saved(tmp_path / "first", max_steps=6, **interval) == {"best": 3, "last": 6}
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    assert steps_saved(tmp_path / there, last, max_steps=9, **interval) == {"best": 3, "last": 9}


def test_last_follows_every_validation(tmp_path: Path) -> None:
    class Interrupted(FadingModule):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            if self.global_step == 7:
                raise RuntimeError("power cut")

    config = compose(f"paths.run_dir='{tmp_path}'").callbacks.checkpoint
    items, found = samples()
    options = {"max_epochs": -1, "max_steps": 9, "check_val_every_n_epoch": None, "val_check_interval": 3}
    run = trainer(tmp_path, [hydra.utils.instantiate(config)], enable_checkpointing=True, **options)
    with pytest.raises(RuntimeError, match="power cut"):
        run.fit(Interrupted(found), loader(items), loader(items))
    files = {file.stem: file for file in (tmp_path / "checkpoints").glob("*.ckpt")}
    assert torch.load(files["last"], weights_only=True)["global_step"] == 6
    assert torch.load(files["best"], weights_only=True)["global_step"] == 3
