"""An exponential moving average of the weights, which validation, test and checkpoints use."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from typing_extensions import override


class EMACallback(WeightAveraging):
    """Lightning's weight averaging with a decay that grows with the run.

    After ``n`` updates the decay is ``min(decay, (1 + n) / (10 + n))``: a run of a few hundred steps does not drag its
    random start along, a long one averages over ``1 / (1 - decay)`` steps. Validation runs on the average, and a
    checkpoint's ``state_dict`` is the average, so whoever loads one gets it; the trained weights lie beside it for
    resuming. Buffers with floating point values (BatchNorm's statistics) are averaged as well, others are copied.

    Args:
        decay: Of the average, in [0, 1).
    """

    def __init__(self, decay: float = 0.998) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), not {decay}")
        super().__init__(multi_avg_fn=self._average)
        self.decay = decay

    def _average(self, averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
        count = int(updates)
        weight = 1 - min(self.decay, (1 + count) / (10 + count))
        if averaged and averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Lightning's own would put the trained weights in place of the average when a fitted trainer goes on to test.
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # The module has the average by now; a later validation of other weights must not be swapped with it.
        self._average_model = None
