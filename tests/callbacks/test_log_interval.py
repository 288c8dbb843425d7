"""Short trainings log their losses often enough, long ones as often as the trainer says."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from kemr_lightning.callbacks.log_interval import LogIntervalCallback
from kemr_lightning.output.csv_log import ContinuedCSVLogger
from tests.callbacks.helpers import FakeModule, loader, samples, trainer


@pytest.mark.parametrize(
    ("steps", "expected"), [(5, 1), (20, 1), (39, 1), (40, 2), (999, 49), (1000, 50), (10**6, 50), (math.inf, 50)]
)
def test_the_interval_gives_twenty_points_or_all_steps(steps: float, expected: int) -> None:
    stub = SimpleNamespace(estimated_stepping_batches=steps, log_every_n_steps=50)
    LogIntervalCallback(points=20).on_train_start(stub, FakeModule({}))  # type: ignore[arg-type]
    assert stub.log_every_n_steps == expected


def test_a_training_of_four_steps_logs_four_losses(tmp_path: Path) -> None:
    items, found = samples(4)
    options = {"logger": ContinuedCSVLogger(tmp_path), "log_every_n_steps": 50, "limit_val_batches": 0}
    trainer(tmp_path, [LogIntervalCallback()], **options).fit(FakeModule(found), loader(items))
    with (tmp_path / "metrics.csv").open(newline="") as stream:
        assert len([row for row in csv.DictReader(stream) if row["train/loss"]]) == 4
