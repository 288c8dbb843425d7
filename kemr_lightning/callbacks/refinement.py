"""Refine what the model predicts, and score it before and after, at validation and test."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from typing_extensions import override

from kemr_lightning.callbacks.evaluation import EvaluationCallback, Stage, run_directory_of
from kemr_lightning.core.contracts import MaskRefiner, Prediction
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.metrics.matching import ImageMatch, match, match_boxes, summarise
from kemr_lightning.metrics.protocol import InstanceMetric
from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.metrics.segmentation import InstanceSegmentationMetric, extended_figures
from kemr_lightning.output.result_files import ResultFilesWriter


class RefinementCallback(EvaluationCallback):
    """Refines the instances of each batch, and scores initial and refined ones with two copies of one metric.

    At the end of a validation (``val/``) or test (``test/``) epoch it logs ``initial/NAME``, ``refined/NAME`` and
    ``gain/NAME`` (refined - initial) for each of the metric's figures, such as ``val/refined/MaskAP``, and
    ``val/NAME`` for the final instances, which exists with and without a refiner. Checkpoints are saved after that, so
    any of these can be monitored. After a test the files of `ResultFilesWriter` are in the run directory.

    Args:
        refiner: Refines the masks of an image; None for no refinement.
        metric: The metric to score with, which is copied; None for `InstanceSegmentationMetric`.
        directory: Where a test's files go; None for the trainer's ``default_root_dir``.
        label_names: Names of labels 1, 2, ... for the files; None for those of the data module, if it has any.
    """

    def __init__(
        self,
        refiner: MaskRefiner | None = None,
        metric: InstanceMetric | None = None,
        directory: str | Path | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        self.refiner = refiner
        self.directory = directory
        self.label_names = label_names
        metric = InstanceSegmentationMetric() if metric is None else metric
        self.metrics: dict[str, InstanceMetric] = {"initial": copy.deepcopy(metric)}
        if refiner is not None:
            self.metrics["refined"] = copy.deepcopy(metric)
        self.figures: dict[str, dict[str, float]] = {}
        """The last epoch's figures: ``initial``, ``refined`` and ``gain``, each name -> value."""
        self.extended: dict[str, dict[str, Any]] = {}
        """The last test's further figures, by ``initial`` and ``refined``: `extended_figures`, and with masks
        ``errors`` as `summarise` gives them."""
        self.records: dict[str, list[ImageRecord]] = {}
        """The last test's images of all processes, with their ``initial`` and ``refined`` predictions."""
        self.matches: dict[str, list[ImageMatch]] = {}
        """The matchings of these images, in the same order."""
        self.latest: list[tuple[Sample, Prediction]] = []
        """The images of the last batch, for callbacks that come after this one."""
        self.seconds_per_image = 0.0
        """Mean time that refining an image took in the last epoch."""
        self.seconds: list[float] = []
        """Time that refining each image of the epoch has taken so far."""

    @override
    def on_evaluation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: Stage) -> None:
        self.latest, self.seconds = [], []
        for metric in self.metrics.values():
            metric.to(pl_module.device)
            metric.reset()

    @override
    def on_evaluation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int, stage: Stage
    ) -> None:
        self._score(outputs, batch)

    @override
    def on_evaluation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: Stage) -> None:
        self._log(pl_module, stage)
        if stage == "test":
            self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        """Write the files of a test. Gathering the images needs every process, writing only one."""
        self.records = {name: metric.gathered() for name, metric in self.metrics.items()}
        names = self.label_names
        if names is None:
            names = getattr(getattr(trainer, "datamodule", None), "label_names", None) or ()
        self.extended = {name: self._details(name, items, names) for name, items in self.records.items()}
        if trainer.is_global_zero:
            figures = {name: self.figures[name] for name in self.metrics}
            ResultFilesWriter(run_directory_of(trainer, self.directory), names).write(
                self.records["initial"], self.records.get("refined"), figures, self.extended
            )

    def _details(self, name: str, records: Sequence[ImageRecord], label_names: Sequence[str]) -> dict[str, Any]:
        """The further figures of ``initial`` or ``refined`` predictions; their matchings are kept."""
        metric = self.metrics[name]
        found = extended_figures(records, metric.ia_score, metric.ia_iou, label_names, metric.max_detections)
        of_masks = "mask" in found
        matching = match if of_masks else match_boxes
        self.matches[name] = [matching(item, metric.ia_score, metric.ia_iou) for item in records]
        if of_masks:
            found["errors"] = summarise(self.matches[name])
        return found

    def _score(self, outputs: Sequence[Instances], batch: Sequence[Sample]) -> None:
        """Refine the instances of a batch and give them to the metrics."""
        self.latest = []
        for sample, instances in zip(batch, outputs, strict=True):
            start = time.perf_counter()
            refined = None if self.refiner is None else self.refiner(sample.image, instances)
            self.seconds.append(time.perf_counter() - start)
            self.latest.append((sample, Prediction(instances, refined)))
        for sample, prediction in self.latest:
            truth = Instances.empty(sample.image_size) if sample.instances is None else sample.instances
            for name, found in prediction.layers():
                self.metrics[name].update([found], [truth], [sample.image_id], [sample.name])

    def logged(self, stage: Stage) -> set[str]:
        """The names of the figures that an epoch of a stage logs, known before anything has run."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there are no images yet
            figures = {name: set(copy.deepcopy(metric).compute()) for name, metric in self.metrics.items()}
        final = figures.get("refined", figures["initial"])
        rows = figures | ({"gain": final} if "refined" in figures else {})
        names = {f"{stage}/{group}/{name}" for group, row in rows.items() for name in row}
        names |= {f"{stage}/{name}" for name in final}
        return names | ({f"{stage}/refinement_seconds_per_image"} if self.refiner is not None else set())

    def _log(self, pl_module: pl.LightningModule, stage: Stage) -> None:
        self.figures = {
            name: {figure: float(value) for figure, value in metric.compute().items()}
            for name, metric in self.metrics.items()
        }
        final = self.figures["initial"]
        if "refined" in self.figures:
            final = self.figures["refined"]
            self.figures["gain"] = {name: value - self.figures["initial"][name] for name, value in final.items()}
        values = {f"{stage}/{group}/{name}": v for group, row in self.figures.items() for name, v in row.items()}
        values |= {f"{stage}/{name}": value for name, value in final.items()}
        self.seconds_per_image = sum(self.seconds) / max(len(self.seconds), 1)
        if self.refiner is not None:
            values[f"{stage}/refinement_seconds_per_image"] = self.seconds_per_image
        # Every process has the same figures: the metric has gathered them already.
        pl_module.log_dict(values)


def find_refinement(trainer: pl.Trainer) -> RefinementCallback | None:
    """The trainer's `RefinementCallback`, or None if it has none."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, RefinementCallback)), None)


def refinement_of(trainer: pl.Trainer) -> RefinementCallback:
    """The trainer's `RefinementCallback`, for callbacks that show what it has refined.

    Raises:
        ValueError: There is none.
    """
    callback = find_refinement(trainer)
    if callback is not None:
        return callback
    raise ValueError("there is no RefinementCallback whose predictions could be shown: put one before this callback")
