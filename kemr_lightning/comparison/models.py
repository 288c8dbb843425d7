"""The models of compared runs at work: on validation images for thresholds, on test images for times and pictures."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from kemr_lightning.comparison.runs import FinishedRun
from kemr_lightning.comparison.scores import Threshold, best_threshold
from kemr_lightning.comparison.systems import System
from kemr_lightning.core.contracts import MaskRefiner, Samples
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.metrics.records import record
from kemr_lightning.training.initial_predictions import initial_predictions
from kemr_lightning.training.module import SegmentationModule
from kemr_lightning.training.store import PredictionStore

logger = logging.getLogger(__name__)

Predict = Callable[[Sample], Instances]


class Workshop(Protocol):
    """Builds from the configuration of a run what its model works with."""

    device: torch.device
    """Where the models run."""

    def samples(self, config: DictConfig, part: Literal["val", "test"], label_names: list[str]) -> Samples:
        """Whole, unaugmented images of a run's data.

        Args:
            config: The configuration of the run.
            part: Which images. A training splits a folder without parts; a test takes all of it.
            label_names: The names of labels 1, 2, ... of the run's model.

        Raises:
            UserError: There are none, or they cannot be read.
        """

    def refiner(self, config: DictConfig, checkpoint: Path) -> MaskRefiner | None:
        """The refiner of a run, with its knowledge.

        Args:
            config: The configuration of the run.
            checkpoint: The run's model.

        Raises:
            UserError: The knowledge file or a parameter is wrong.
        """

    def store(self, module: SegmentationModule, checkpoint: Path) -> PredictionStore | None:
        """The store of a run's initial predictions, or None to keep none.

        Args:
            module: The run's module.
            checkpoint: Its file.
        """


class Models:
    """Every run's model with its refiner.

    Args:
        runs: The runs.
        workshop: Builds refiners, data and stores.
    """

    def __init__(self, runs: Sequence[FinishedRun], workshop: Workshop) -> None:
        self.runs = runs
        self.workshop = workshop
        self.refiners = {
            run.directory: workshop.refiner(run.config, run.checkpoint) if run.refined else None for run in runs
        }
        self._thresholds: dict[Path, dict[bool, Threshold | None]] = {}

    def threshold(self, row: System, iou: float) -> Threshold | None:
        """The score with the best F1 on the validation images of the training.

        Args:
            row: A system.
            iou: Minimum IoU of a prediction with its annotation.

        Returns:
            The threshold, or None where there are no validation images.
        """
        directory = row.run.directory
        if directory not in self._thresholds:
            self._thresholds[directory] = self._choose(row.run, iou)
        return self._thresholds[directory][row.refined]

    @torch.no_grad()
    def _choose(self, run: FinishedRun, iou: float) -> dict[bool, Threshold | None]:
        """The thresholds of a run's initial (False) and refined (True) instances."""
        nothing: dict[bool, Threshold | None] = {False: None, True: None}
        module, refiner = run.module, self.refiners[run.directory]
        try:
            samples = self.workshop.samples(run.training, "val", module.label_names)
        except UserError as error:
            logger.warning("%s: no own threshold without validation images. %s", run.directory, error)
            return nothing
        module.store = self.workshop.store(module, run.checkpoint)
        tested = {item.name for item in run.initial}
        threshold = float(OmegaConf.select(run.config, "metric.threshold", default=0.5))
        found = []
        try:
            for sample, initial in initial_predictions(module, samples, self.workshop.device):
                if sample.name in tested or sample.instances is None:
                    logger.warning("%s: no own threshold, %s is not a validation image", run.directory, sample.name)
                    return nothing
                final = initial if refiner is None else refiner(sample.image, initial)
                both = (record(i, sample.instances, sample.image_id, sample.name, threshold) for i in (initial, final))
                found.append(tuple(both))
        finally:
            module.store = None  # times are never those of stored predictions
        initial_records, final_records = zip(*found, strict=True)
        return {False: best_threshold(initial_records, iou), True: best_threshold(final_records, iou)}

    def measured(self, count: int) -> dict[Path, tuple[float, float | None]]:
        """Measure the models on evenly spread test images.

        Args:
            count: Number of images; 0 measures nothing.

        Returns:
            Run directory -> median seconds per image of its model, and of its refinement or None without.
        """
        if count < 1:
            return {}
        images = self._tests(self.runs[0])
        chosen = torch.linspace(0, len(images) - 1, min(count, len(images))).round().int().tolist()
        samples = [images[position].to(self.workshop.device) for position in chosen]
        logger.info("timing %d models on %d images", len(self.runs), len(samples))
        models = {
            str(run.directory): (_predictor(run.module.to(self.workshop.device).eval()), self.refiners[run.directory])
            for run in self.runs
        }
        times = measure(models, samples)
        return {run.directory: times[str(run.directory)] for run in self.runs}

    def test_images(self, names: set[str]) -> Mapping[str, Tensor]:
        """The pixels of test images, as far as they are there.

        Args:
            names: Names of images in the records.

        Returns:
            Name -> ``(H, W)`` uint8.
        """
        found: dict[str, Tensor] = {}
        if not names:
            return found
        try:
            images = self._tests(self.runs[0])
        except UserError as error:
            logger.warning("no pictures side by side. %s", error)
            return found
        for position in range(len(images)):
            if len(found) == len(names):
                break
            sample = images[position]
            if sample.name in names:
                found[sample.name] = sample.image
        if names - set(found):
            logger.warning("no pictures of %s: not found among the test images", ", ".join(sorted(names - set(found))))
        return found

    def _tests(self, run: FinishedRun) -> Samples:
        return self.workshop.samples(run.config, "test", run.module.label_names)


def _predictor(module: SegmentationModule) -> Predict:
    return lambda sample: module.predict_step([sample], 0)[0]


@torch.no_grad()
def measure(
    models: Mapping[str, tuple[Predict, MaskRefiner | None]], samples: Sequence[Sample], warm_up: int = 1
) -> dict[str, tuple[float, float | None]]:
    """Time every model on every image, the models in alternation so that other load on the machine affects all alike.

    Args:
        models: Name -> prediction and refinement.
        samples: The images, on the models' device.
        warm_up: Images that are predicted before the clock starts.

    Returns:
        Name -> median seconds per image of the model, and of the refinement or None without.
    """
    spent: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in models}
    for number, sample in enumerate([*samples[:warm_up], *samples]):
        for name, (predict, refine) in models.items():
            start = _now(sample)
            instances = predict(sample)
            middle = _now(sample)
            if refine is not None:
                refine(sample.image, instances)
            end = _now(sample)
            if number >= warm_up:
                spent[name][0].append(middle - start)
                spent[name][1].append(end - middle)
    return {
        name: (statistics.median(found), statistics.median(refined) if models[name][1] is not None else None)
        for name, (found, refined) in spent.items()
    }


def _now(sample: Sample) -> float:
    if sample.image.device.type == "cuda":
        torch.cuda.synchronize(sample.image.device)
    return time.perf_counter()


@dataclass(frozen=True)
class Times:
    """Times in seconds, None where they were not recorded.

    Attributes:
        training: Wall clock, without validation.
        training_cpu: Processor time of the same.
        model: Median of an image.
        refinement: Median of an image; None for systems that do not refine as well.
        measured: Whether ``model`` and ``refinement`` were measured for the comparison, else the run recorded them.
    """

    training: float | None = None
    training_cpu: float | None = None
    model: float | None = None
    refinement: float | None = None
    measured: bool = False

    @property
    def inference(self) -> float | None:
        """Seconds for an image, refinement included."""
        return None if self.model is None else self.model + (self.refinement or 0.0)


def times_of(system: System, measured: tuple[float, float | None] | None = None) -> Times:
    """The times of a row.

    Args:
        system: The row.
        measured: Seconds per image of its run's model and refinement, if they were measured anew.

    Returns:
        Its times. The unrefined masks of a run that refines are not charged for the refinement; a system that refines
        has no inference time if its refinement was not timed.
    """
    training: Mapping[str, Any] = system.run.timing.get("training", {})
    test: Mapping[str, Any] = system.run.timing.get("test", {})
    model, refinement = measured or (test.get("seconds_per_image"), test.get("refinement_seconds_per_image"))
    if system.refined and refinement is None:
        model = None
    return Times(
        training.get("seconds"),
        training.get("cpu_seconds"),
        model,
        refinement if system.refined else None,
        measured is not None,
    )
