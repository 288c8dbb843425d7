"""Tables of a test, a row per image and precision over recall: on disk, and with the images themselves in W&B."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from typing_extensions import override

from kemr_lightning.callbacks.evaluation import EvaluationCallback, Stage, batches_of, run_directory_of
from kemr_lightning.callbacks.refinement import RefinementCallback, refinement_of
from kemr_lightning.core.contracts import Prediction
from kemr_lightning.core.files import write_csv
from kemr_lightning.core.instances import Sample
from kemr_lightning.core.run_directory import PER_IMAGE, PRECISION_RECALL_TABLE
from kemr_lightning.output.overlays import layered_image
from kemr_lightning.output.per_image import CURVE_COLUMNS, curve_rows, image_columns, image_rows
from kemr_lightning.output.wandb_run import attempt, run_of

CHARTED = ("0.50", "0.75", "0.85")
"""IoU thresholds of the curves in W&B's chart; the files have all."""


class TablesCallback(EvaluationCallback):
    """Writes ``per_image.csv`` and ``precision_recall.csv`` after a test, and logs both to W&B.

    In W&B ``test/images`` is the table of all test images. Its first rows, those of evenly spread images, show the
    image with its ground truth, initial and refined masks as layers; ``val/images`` shows such images of each
    validation. It must come after the `RefinementCallback`, whose predictions it shows.

    Args:
        directory: The run directory; None for the trainer's ``default_root_dir``.
        images: Number of test images that W&B's table shows; 0 for a table without images.
        val_images: Number of validation images that W&B shows.
    """

    def __init__(self, directory: str | Path | None = None, images: int = 16, val_images: int = 2) -> None:
        self.directory = directory
        self.images = {"val": val_images, "test": images}
        self.shown: dict[int, Any] = {}
        """The epoch's images so far: image id -> ``wandb.Image``."""

    @override
    def on_evaluation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: Stage) -> None:
        self.shown = {}

    @override
    def on_evaluation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, stage: Stage
    ) -> None:
        self._show(trainer, batch_idx, stage)

    @override
    def on_evaluation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: Stage) -> None:
        if stage == "test":
            return  # the images are part of the table, which is made when all files are written
        run = run_of(trainer) if self.shown else None
        if run is not None:
            shown = list(self.shown.values())
            attempt(lambda: run.log({"val/images": shown, "trainer/global_step": trainer.global_step}))
        self.shown = {}

    @override
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        refinement = refinement_of(trainer)
        if not trainer.is_global_zero or not refinement.records:
            return
        columns = image_columns("refined" in refinement.matches)
        rows = list(image_rows(refinement.records["initial"], refinement.matches))
        curves = list(curve_rows(refinement.extended))
        directory = run_directory_of(trainer, self.directory)
        write_csv(directory / PER_IMAGE, columns, rows)
        write_csv(directory / PRECISION_RECALL_TABLE, CURVE_COLUMNS, curves)
        run = run_of(trainer)
        if run is not None:
            step = {"trainer/global_step": trainer.global_step}
            attempt(lambda: run.log({"test/images": self._table(columns, rows), **step}))
            attempt(lambda: run.log({"test/precision_recall": _chart(curves), **step}))
        self.shown = {}

    def _show(self, trainer: pl.Trainer, batch_idx: int, stage: Stage) -> None:
        """Add images of the batch, as many as are due by now if they are spread over the epoch."""
        if not self.images[stage] or trainer.sanity_checking or not trainer.is_global_zero or run_of(trainer) is None:
            return
        total = batches_of(trainer, stage) or 1
        due = math.ceil(self.images[stage] * min((batch_idx + 1) / total, 1))
        refinement = refinement_of(trainer)
        for sample, prediction in refinement.latest[: max(due - len(self.shown), 0)]:
            attempt(lambda s=sample, p=prediction: self._add(refinement, s, p))  # type: ignore[misc]

    def _add(self, refinement: RefinementCallback, sample: Sample, prediction: Prediction) -> None:
        metric = refinement.metrics["initial"]
        self.shown[sample.image_id] = layered_image(
            sample, prediction, metric.ia_score, metric.ia_iou, metric.threshold
        )

    def _table(self, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> Any:
        """``per_image.csv`` as a ``wandb.Table``, rows with an image first."""
        import wandb

        ordered = sorted(rows, key=lambda row: row["image_id"] not in self.shown)
        names = ["file_name", *(["image"] if self.shown else []), *(c for c in columns if c != "file_name")]
        data = [[{**row, "image": self.shown.get(row["image_id"])}[name] for name in names] for row in ordered]
        return wandb.Table(columns=list[str | int](names), data=data)


def _chart(curves: Sequence[dict[str, Any]]) -> Any:
    """``precision_recall.csv`` as a chart of W&B, a line for each kind of masks and IoU threshold."""
    import wandb

    lines: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    for row in curves:
        if row["iou"] in CHARTED:
            xs, ys = lines.setdefault((row["masks"], row["iou"]), ([], []))
            xs.append(row["recall"])
            ys.append(row["precision"])
    return wandb.plot.line_series(
        xs=[xs for xs, _ in lines.values()],
        ys=[ys for _, ys in lines.values()],
        keys=[f"{masks}, IoU {iou}" for masks, iou in lines],
        title="precision over recall",
        xname="recall",
    )
