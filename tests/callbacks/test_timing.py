"""Times are those of the work: training without validation, the model without the refiner, nothing from the store."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from kemr_lightning.callbacks.refinement import RefinementCallback
from kemr_lightning.callbacks.timing import TimingCallback
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.core.run_directory import TIMING
from kemr_lightning.output.timing_file import read_timing
from kemr_lightning.training.store import PredictionStore
from tests.callbacks.helpers import FakeModule, eroding, loader, samples, trainer

STEP, VALIDATION, IMAGE, REFINING = 0.02, 0.05, 0.02, 0.15


class SlowModule(FakeModule):
    """Takes a known time for everything."""

    store: PredictionStore | None = None

    def training_step(self, batch: list[Sample], batch_idx: int) -> torch.Tensor:
        time.sleep(STEP)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: list[Sample], batch_idx: int) -> list[Instances]:
        time.sleep(VALIDATION)
        return self.predict_step(batch, batch_idx)

    def test_step(self, batch: list[Sample], batch_idx: int) -> list[Instances]:
        time.sleep(IMAGE * len(batch))
        return self.predict_step(batch, batch_idx)


class HalfStored(SlowModule):
    """Answers every second batch from its store."""

    def test_step(self, batch: list[Sample], batch_idx: int) -> list[Instances]:
        if batch_idx % 2 and self.store is not None:
            self.store.reused += len(batch)
            return self.predict_step(batch, batch_idx)
        return super().test_step(batch, batch_idx)


def slow_refiner(image: torch.Tensor, instances: Instances) -> Instances:
    time.sleep(REFINING)
    return eroding(image, instances)


def run(directory: Path, steps: int, module: SlowModule, items: Any, resume: Path | None = None) -> pl.Trainer:
    callbacks = [
        TimingCallback(directory),
        RefinementCallback(slow_refiner, directory=directory),
        ModelCheckpoint(directory, save_last=True),
    ]
    made = trainer(directory, callbacks, enable_checkpointing=True, max_epochs=-1, max_steps=steps)
    made.fit(module, loader(items), loader(items), ckpt_path=resume, weights_only=True)
    return made


def test_training_and_test_are_timed_apart(tmp_path: Path) -> None:
    items, found = samples(4)
    module = SlowModule(found)
    run(tmp_path, 4, module, items).test(module, loader(items), verbose=False)
    timing = json.loads((tmp_path / TIMING).read_text())
    training = timing["training"]
    assert training["steps"] == 4
    assert training["seconds"] > 4 * STEP
    # Two epochs of two steps, each followed by two validation batches and the refinement of four images.
    validated = 2 * (2 * VALIDATION + 4 * REFINING)
    assert training["validation_seconds"] > validated
    assert training["cpu_seconds"] > 0
    test = timing["test"]
    assert test["images"] == 4
    assert IMAGE < test["seconds_per_image"] < IMAGE + REFINING
    assert test["refinement_seconds_per_image"] > REFINING
    assert set(timing["machine"]) == {"device", "threads", "torch"}


def test_a_resumed_training_counts_what_came_before(tmp_path: Path) -> None:
    items, found = samples(4)
    run(tmp_path / "first", 4, SlowModule(found), items)
    before = read_timing(tmp_path / "first")["training"]
    run(tmp_path / "second", 6, SlowModule(found), items, resume=tmp_path / "first" / "last.ckpt")
    after = read_timing(tmp_path / "second")["training"]
    assert after["steps"] == 6
    assert after["seconds"] > before["seconds"] + 2 * STEP - STEP / 2  # the last checkpoint was saved within a step
    assert after["validation_seconds"] > before["validation_seconds"] / 2


def test_images_from_the_store_are_not_timed(tmp_path: Path) -> None:
    items, found = samples(8)
    module = HalfStored(found)
    module.store = PredictionStore(tmp_path / "store", "model")
    made = trainer(tmp_path, [TimingCallback(), RefinementCallback()])
    made.test(module, loader(items), verbose=False)
    test = read_timing(tmp_path)["test"]
    assert test["images"] == 4
    assert test["seconds_per_image"] > IMAGE
    assert test["refinement_seconds_per_image"] is None
