"""Let short trainings log often enough to draw a curve."""

from __future__ import annotations

import math

import lightning.pytorch as pl
from typing_extensions import override


class LogIntervalCallback(pl.Callback):
    """Lowers ``trainer.log_every_n_steps`` where a training would log its losses too few times.

    Args:
        points: Minimum number of times; a training with fewer steps logs every step.
    """

    def __init__(self, points: int = 20) -> None:
        self.points = points

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = trainer.estimated_stepping_batches
        if math.isfinite(steps):
            trainer.log_every_n_steps = max(1, min(trainer.log_every_n_steps, int(steps) // self.points))  # type: ignore[attr-defined]
