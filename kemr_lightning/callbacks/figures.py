"""Pictures of a few fixed images and the curves of a run, to ``figures/`` and to W&B."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.loggers import WandbLogger
from typing_extensions import override

from kemr_lightning.callbacks.refinement import Outcome, RefinementCallback
from kemr_lightning.output import figures

logger = logging.getLogger(__name__)

FOLDER = "figures"


class FiguresCallback(pl.Callback):
    """Draws masks of evenly spread validation and test images, and the curves of a test and of the training.

    It comes after the `RefinementCallback`, whose outcomes it draws. Files: ``figures/val/NAME.png`` (the latest
    validation), ``figures/test/NAME.png``, ``figures/precision_recall.png``, ``figures/ap_over_iou.png`` and
    ``figures/training.png``. A W&B run gets the pictures too, and the images with masks that can be toggled. A picture
    that fails is reported and costs nothing but itself.

    Args:
        directory: The run directory; None for the trainer's ``default_root_dir``.
        val_images: Number of validation images.
        test_images: Number of test images; 0 draws nothing of a test, not even its curves.
        score: Predictions below it are not drawn.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        val_images: int = 2,
        test_images: int = 4,
        score: float = 0.5,
    ) -> None:
        self.directory = None if directory is None else Path(directory)
        self.images = {"val": val_images, "test": test_images}
        self.score = score
        self._chosen: frozenset[int] = frozenset()

    @override
    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._choose(trainer.num_val_batches, "val")

    @override
    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._choose(trainer.num_test_batches, "test")

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
        self._draw(trainer, batch_idx, "val")

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
        self._draw(trainer, batch_idx, "test")

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._training_curves(trainer)

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero or not self.images["test"]:
            return
        extended = _refinement(trainer).extended
        folder = self._folder(trainer)
        if extended:
            _try(lambda: figures.precision_recall(extended, folder / "precision_recall.png"))
            _try(lambda: figures.ap_over_iou(extended, folder / "ap_over_iou.png"))
            self._show(trainer, {"test/curves": [folder / "precision_recall.png", folder / "ap_over_iou.png"]})

    def _choose(self, batches: list[int | float], stage: Literal["val", "test"]) -> None:
        """Fix which batches' first images are drawn: evenly spread ones, the same in every epoch."""
        total = int(batches[0]) if batches and np.isfinite(batches[0]) else self.images[stage]
        count = min(self.images[stage], total)
        self._chosen = (
            frozenset(np.linspace(0, total - 1, count).round().astype(int).tolist()) if count else frozenset()
        )

    def _draw(self, trainer: pl.Trainer, batch_idx: int, stage: Literal["val", "test"]) -> None:
        if batch_idx not in self._chosen or trainer.sanity_checking or not trainer.is_global_zero:
            return
        latest = _refinement(trainer).latest
        if not latest:
            return
        outcome = latest[0]
        name = outcome.sample.name.replace("/", "_").replace("\\", "_")
        path = self._folder(trainer) / stage / f"{Path(name).stem}.png"
        _try(lambda: figures.mask_picture(outcome.sample, outcome.initial, outcome.refined, path, self.score))
        self._show(trainer, {f"{stage}/outlines/{Path(name).stem}": [path]})
        _try(lambda: self._masks(trainer, f"{stage}/masks/{Path(name).stem}", outcome))

    def _masks(self, trainer: pl.Trainer, key: str, outcome: Outcome) -> None:
        run = _wandb(trainer)
        if run is None:
            return
        import wandb  # only where a run is open, so that nothing else waits for the import

        classes = {1: "chromosome", 2: "several"}
        layers = {"ground truth": outcome.sample.instances, "initial": outcome.initial, "refined": outcome.refined}
        masks = {
            name: {"mask_data": figures.count_map(instances, self.score), "class_labels": classes}
            for name, instances in layers.items()
            if instances is not None and instances.patches is not None
        }
        image = wandb.Image(outcome.sample.image.cpu().numpy(), masks=masks, caption=outcome.sample.name)
        run.log({key: image, "trainer/global_step": trainer.global_step})

    def _show(self, trainer: pl.Trainer, pictures: dict[str, list[Path]]) -> None:
        run = _wandb(trainer)
        if run is None:
            return
        import wandb

        found = {key: [wandb.Image(str(path)) for path in paths if path.is_file()] for key, paths in pictures.items()}
        _try(lambda: run.log({**found, "trainer/global_step": trainer.global_step}))

    def _training_curves(self, trainer: pl.Trainer) -> None:
        table = self._folder(trainer).parent / "metrics.csv"
        if not trainer.is_global_zero or not table.is_file():
            return
        path = self._folder(trainer) / "training.png"
        _try(lambda: figures.training_curves(table, path))
        if path.is_file():
            self._show(trainer, {"train/curves": [path]})

    def _folder(self, trainer: pl.Trainer) -> Path:
        return (self.directory or Path(trainer.default_root_dir)) / FOLDER


def _refinement(trainer: pl.Trainer) -> RefinementCallback:
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, RefinementCallback):
            return callback
    raise ValueError("FiguresCallback draws what RefinementCallback has refined: put one before it")


def _wandb(trainer: pl.Trainer) -> Any | None:
    return next((log.experiment for log in trainer.loggers if isinstance(log, WandbLogger)), None)


def _try(draw: Callable[[], object]) -> None:
    """A picture is not worth a training: report its failure and go on."""
    try:
        draw()
    except Exception:
        logger.warning("a figure could not be drawn; the run goes on without it", exc_info=True)
