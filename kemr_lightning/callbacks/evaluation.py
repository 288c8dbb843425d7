"""Callbacks that do the same at validation and at test."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from typing_extensions import override

Stage = Literal["val", "test"]


def run_directory_of(trainer: pl.Trainer, directory: str | Path | None) -> Path:
    """The directory that a callback writes into.

    Args:
        trainer: The trainer.
        directory: The callback's own; None for the trainer's ``default_root_dir``.
    """
    return Path(trainer.default_root_dir if directory is None else directory)


class EvaluationCallback(pl.Callback):
    """Takes Lightning's hooks of validation and test together; a subclass overrides the three ``on_evaluation_...``."""

    def on_evaluation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: Stage) -> None:
        """Called before the first batch of an epoch."""

    def on_evaluation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, stage: Stage
    ) -> None:
        """Called after each batch.

        Args:
            trainer: The trainer.
            pl_module: The module.
            outputs: The instances that the module has found in each image.
            batch: The samples.
            batch_idx: Position in the epoch.
            stage: Validation or test.
        """

    def on_evaluation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: Stage) -> None:
        """Called after the last batch of an epoch."""

    @override
    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_evaluation_start(trainer, pl_module, "val")

    @override
    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_evaluation_start(trainer, pl_module, "test")

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.on_evaluation_batch_end(trainer, pl_module, outputs, batch, batch_idx, "val")

    @override
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.on_evaluation_batch_end(trainer, pl_module, outputs, batch, batch_idx, "test")

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_evaluation_end(trainer, pl_module, "val")

    @override
    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_evaluation_end(trainer, pl_module, "test")


def batches_of(trainer: pl.Trainer, stage: Stage) -> int | None:
    """Number of batches in an epoch, or None if it is not known.

    Args:
        trainer: The trainer.
        stage: Validation or test.
    """
    batches = trainer.num_val_batches if stage == "val" else trainer.num_test_batches
    return int(batches[0]) if batches and batches[0] != float("inf") else None
