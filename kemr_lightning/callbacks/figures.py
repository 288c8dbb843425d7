"""Pictures of a few fixed images and the curves of a run, to ``figures/`` and to W&B."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from typing_extensions import override

from kemr_lightning.callbacks.evaluation import EvaluationCallback, Stage, batches_of, run_directory_of
from kemr_lightning.callbacks.refinement import refinement_of
from kemr_lightning.core.run_directory import AP_OVER_IOU, FIGURES, PRECISION_RECALL, TRAINING, TRAINING_TABLE
from kemr_lightning.output import curve_figures, mask_figures
from kemr_lightning.output.wandb_run import attempt, run_of

logger = logging.getLogger(__name__)


class FiguresCallback(EvaluationCallback):
    """Draws masks of evenly spread validation and test images, and the curves of a test and of the training.

    It must come after the `RefinementCallback`, whose predictions it draws. Files: ``figures/val/NAME.png`` (the latest
    validation), ``figures/test/NAME.png``, ``figures/precision_recall.png``, ``figures/ap_over_iou.png`` and
    ``figures/training.png``. They are logged to W&B too (``val/outlines``, ``test/outlines``, ``test/curves``,
    ``train/curves``). A figure that cannot be drawn is reported, and the run continues without it.

    Args:
        directory: The run directory; None for the trainer's ``default_root_dir``.
        val_images: Number of validation images to draw.
        test_images: Number of test images to draw; with 0 the curves of a test are not drawn either.
        score: Predictions below this score are not drawn.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        val_images: int = 2,
        test_images: int = 4,
        score: float = 0.5,
    ) -> None:
        self.directory = directory
        self.images = {"val": val_images, "test": test_images}
        self.score = score
        self._chosen: frozenset[int] = frozenset()
        self._drawn: list[Path] = []

    @override
    def on_evaluation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: Stage) -> None:
        """Choose the batches whose first image is drawn: evenly spread, and the same in every epoch."""
        self._drawn = []
        batches = batches_of(trainer, stage)
        total = self.images[stage] if batches is None else batches
        count = min(self.images[stage], total)
        self._chosen = (
            frozenset(np.linspace(0, total - 1, count).round().astype(int).tolist()) if count else frozenset()
        )

    @override
    def on_evaluation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, stage: Stage
    ) -> None:
        self._draw(trainer, batch_idx, stage)

    @override
    def on_evaluation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: Stage) -> None:
        self._show(trainer, f"{stage}/outlines", self._drawn)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._training_curves(trainer)

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not self.images["test"]:
            return
        extended = refinement_of(trainer).extended
        folder = self._folder(trainer)
        if extended:
            _try(lambda: curve_figures.precision_recall(extended, folder / PRECISION_RECALL))
            _try(lambda: curve_figures.ap_over_iou(extended, folder / AP_OVER_IOU))
            self._show(trainer, "test/curves", [folder / PRECISION_RECALL, folder / AP_OVER_IOU])

    def _draw(self, trainer: pl.Trainer, batch_idx: int, stage: Stage) -> None:
        if batch_idx not in self._chosen or trainer.sanity_checking or not trainer.is_global_zero:
            return
        latest = refinement_of(trainer).latest
        if not latest:
            return
        sample, prediction = latest[0]
        name = sample.name.replace("/", "_").replace("\\", "_")
        path = self._folder(trainer) / stage / f"{Path(name).stem}.png"
        _try(lambda: mask_figures.mask_picture(sample, prediction, path, self.score))
        self._drawn.append(path)

    def _show(self, trainer: pl.Trainer, key: str, paths: list[Path]) -> None:
        """Log to W&B, as one panel, those of some pictures that could be drawn."""
        drawn = [path for path in paths if path.is_file()]
        run = run_of(trainer) if drawn else None
        if run is None:
            return
        import wandb  # late: only runs that log to W&B wait for it

        pictures = [wandb.Image(str(path)) for path in drawn]
        attempt(lambda: run.log({key: pictures, "trainer/global_step": trainer.global_step}))

    def _training_curves(self, trainer: pl.Trainer) -> None:
        table = self._folder(trainer).parent / TRAINING_TABLE
        if not trainer.is_global_zero or not table.is_file():
            return
        path = self._folder(trainer) / TRAINING
        _try(lambda: curve_figures.training_curves(table, path))
        self._show(trainer, "train/curves", [path])

    def _folder(self, trainer: pl.Trainer) -> Path:
        return run_directory_of(trainer, self.directory) / FIGURES


def _try(draw: Callable[[], object]) -> None:
    """Draw a figure; if that fails, report it and continue: no figure is worth losing a training for."""
    try:
        draw()
    except Exception:
        logger.warning("a figure could not be drawn; the run continues without it", exc_info=True)
