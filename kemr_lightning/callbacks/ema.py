"""An exponential moving average of the weights, used in validation, test and checkpoints."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor
from typing_extensions import override

from kemr_lightning.core.errors import SettingError


class EMACallback(WeightAveraging):
    """Lightning's weight averaging with a decay that grows with the run.

    After ``n`` updates the decay is ``min(decay, (1 + n) / (10 + n))``, as in TensorFlow's
    ``ExponentialMovingAverage``: a run of a few hundred steps forgets its random start, and a long one averages over
    about ``1 / (1 - decay)`` steps. Validation uses the average. A checkpoint's ``state_dict`` is the average, so
    everybody who loads it gets the average; the trained weights are beside it, to resume from. Floating point buffers
    (BatchNorm's statistics) are averaged as well, other buffers are copied.

    Args:
        decay: Maximum decay of the average, in [0, 1).

    Raises:
        SettingError: The decay is out of its range.
    """

    def __init__(self, decay: float = 0.998) -> None:
        if not 0 <= decay < 1:
            raise SettingError("decay", decay, "is not at least 0 and below 1", "Choose a value such as 0.998")
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
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        # A skipped step left the weights as they were; counting them again would shift the average.
        if getattr(pl_module, "step_skipped", False):
            self._latest_update_step = trainer.global_step
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Lightning's method would replace the average by the trained weights when a fitted trainer runs a test.
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning copies the average at the end of a training, but not if a resumed one has no step left to take.
        if self._average_model is not None:
            self._copy_average_to_current(pl_module)

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # By now the module has the average; a later validation of other weights must not exchange them for it.
        self._average_model = None
