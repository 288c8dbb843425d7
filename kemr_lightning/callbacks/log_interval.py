"""Short trainings log often enough that their curves have points."""

from __future__ import annotations

import math

import lightning.pytorch as pl
from typing_extensions import override


class LogIntervalCallback(pl.Callback):
    """Lowers ``trainer.log_every_n_steps`` where it would give a training fewer than some points of losses.

    Args:
        points: The least number of points wanted, or all steps of a training that has fewer.
    """

    def __init__(self, points: int = 20) -> None:
        self.points = points

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = trainer.estimated_stepping_batches
        if math.isfinite(steps):
            trainer.log_every_n_steps = max(1, min(trainer.log_every_n_steps, int(steps) // self.points))  # type: ignore[attr-defined]
