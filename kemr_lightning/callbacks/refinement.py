"""Refine what the model predicts and score it before and after, at validation, test and predict."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from torch import Tensor
from typing_extensions import override

from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.metrics.matching import ImageMatch, match, match_boxes, summarise
from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.metrics.segmentation import InstanceSegmentationMetric, extended_figures
from kemr_lightning.output.coco_results import CocoResultsWriter

Stage = Literal["val", "test"]


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes:
        sample: The image and its annotations.
        initial: The detector's instances.
        refined: The same with refined masks, or None without a refiner.
    """

    sample: Sample
    initial: Instances
    refined: Instances | None

    @property
    def final(self) -> Instances:
        """The refined instances, or the initial ones without a refiner."""
        return self.initial if self.refined is None else self.refined


class RefinementCallback(pl.Callback):
    """Refines each batch's instances and scores initial and refined ones with two metrics of one kind.

    Logged at the end of a validation (``val/``) or test (``test/``) epoch: ``initial/NAME``, ``refined/NAME`` and
    ``gain/NAME`` (refined - initial) for BoxAP, MaskAP, AP50, AP75 and IA, and ``val/NAME`` itself for the final
    instances, which exists with and without a refiner. They are logged before checkpoints are saved, so any of them
    can be monitored. After a test the files of `CocoResultsWriter` are in the run directory. In prediction the
    instances that `Trainer.predict` returns are the refined ones.

    Args:
        refiner: ``(image (H, W) uint8, instances) -> instances`` with the same boxes, scores and labels; None for no
            refinement.
        metric: The metric to score with; a default one if None. It is copied.
        directory: Where a test's files go; None for the trainer's ``default_root_dir``.
        label_names: Names of labels 1, 2, ... for the files; None asks the data module's ``label_names``, if any.
    """

    def __init__(
        self,
        refiner: Callable[[Tensor, Instances], Instances] | None = None,
        metric: InstanceSegmentationMetric | None = None,
        directory: str | Path | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        self.refiner = refiner
        self.directory = None if directory is None else Path(directory)
        self.label_names = label_names
        metric = InstanceSegmentationMetric() if metric is None else metric
        self.metrics = {"initial": copy.deepcopy(metric)}
        if refiner is not None:
            self.metrics["refined"] = copy.deepcopy(metric)
        self.figures: dict[str, dict[str, float]] = {}
        """The last epoch's ``initial``, ``refined`` and ``gain``, each name -> percent."""
        self.extended: dict[str, dict[str, Any]] = {}
        """The last test's further figures: `extended_figures` and, with masks, ``errors`` of each of them."""
        self.records: dict[str, list[ImageRecord]] = {}
        """The last test's images of all processes, with their ``initial`` and ``refined`` predictions."""
        self.matches: dict[str, list[ImageMatch]] = {}
        """What became of their annotations, in the same order."""
        self.latest: list[Outcome] = []
        """The last batch, for callbacks that come after this one."""
        self.seconds_per_image = 0.0
        """What refining took in the last epoch, mean."""
        self.seconds: list[float] = []
        """What refining took for each image of the epoch so far."""

    @override
    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart(pl_module)

    @override
    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart(pl_module)

    @override
    def on_predict_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restart(pl_module)

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
        self._score(outputs, batch)

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
        self._score(outputs, batch)

    @override
    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        # In place, so that `Trainer.predict` returns the final instances.
        self.latest = self._refine(outputs, batch)
        outputs[:] = [outcome.final for outcome in self.latest]

    @override
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(pl_module, "val")

    @override
    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(pl_module, "test")
        # Gathering needs every process, writing only one.
        self.records = {name: metric.gathered() for name, metric in self.metrics.items()}
        names = self.label_names
        if names is None:
            names = getattr(getattr(trainer, "datamodule", None), "label_names", None) or ()
        self.extended = {name: self._details(name, items, names) for name, items in self.records.items()}
        if trainer.is_global_zero:
            directory = self.directory or Path(trainer.default_root_dir)
            figures = {name: self.figures[name] for name in self.metrics}
            CocoResultsWriter(directory, names).write(
                self.records["initial"], self.records.get("refined"), figures, self.extended
            )

    def _details(self, name: str, records: Sequence[ImageRecord], label_names: Sequence[str]) -> dict[str, Any]:
        metric = self.metrics[name]
        found = extended_figures(records, metric.ia_score, metric.ia_iou, label_names)
        of_masks = "mask" in found
        matching = match if of_masks else match_boxes
        self.matches[name] = [matching(item, metric.ia_score, metric.ia_iou) for item in records]
        if of_masks:
            found["errors"] = summarise(self.matches[name])
        return found

    def _restart(self, pl_module: pl.LightningModule) -> None:
        self.latest, self.seconds = [], []
        for metric in self.metrics.values():
            metric.to(pl_module.device)
            metric.reset()

    def _refine(self, outputs: Sequence[Instances], batch: Sequence[Sample]) -> list[Outcome]:
        outcomes = []
        for instances, sample in zip(outputs, batch, strict=True):
            start = time.perf_counter()
            refined = None if self.refiner is None else self.refiner(sample.image, instances)
            self.seconds.append(time.perf_counter() - start)
            outcomes.append(Outcome(sample, instances, refined))
        return outcomes

    def _score(self, outputs: Sequence[Instances], batch: Sequence[Sample]) -> None:
        self.latest = self._refine(outputs, batch)
        for outcome in self.latest:
            sample = outcome.sample
            truth = Instances.empty(sample.image_size) if sample.instances is None else sample.instances
            self.metrics["initial"].update([outcome.initial], [truth], [sample.image_id], [sample.name])
            if outcome.refined is not None:
                self.metrics["refined"].update([outcome.refined], [truth], [sample.image_id], [sample.name])

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


def refinement_of(trainer: pl.Trainer) -> RefinementCallback:
    """The trainer's `RefinementCallback`, for callbacks that show what it has refined.

    Raises:
        ValueError: There is none.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, RefinementCallback):
            return callback
    raise ValueError("there is no RefinementCallback whose outcomes could be shown: put one before this callback")
