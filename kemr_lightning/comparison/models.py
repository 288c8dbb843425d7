"""The models of compared runs at work: on validation images for thresholds, on test images for times and pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from kemr_lightning.assembly.build import DataModule, build_data, whole_samples
from kemr_lightning.assembly.refiner import build_refiner
from kemr_lightning.comparison.measure import Predict, measure
from kemr_lightning.comparison.runs import FinishedRun
from kemr_lightning.comparison.systems import System
from kemr_lightning.comparison.threshold import Threshold, best_threshold
from kemr_lightning.core.contracts import Samples
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Sample
from kemr_lightning.metrics.records import record
from kemr_lightning.training.checkpoint import load_module
from kemr_lightning.training.module import SegmentationModule
from kemr_lightning.training.store import PredictionStore

logger = logging.getLogger(__name__)


class Models:
    """Every run's model, its refiner and its data, read once.

    Args:
        runs: The runs.
        store: Folder of stored predictions, or None to keep none.
        device: Where the models run.
    """

    def __init__(self, runs: Sequence[FinishedRun], store: str | Path | None, device: torch.device) -> None:
        self.runs = runs
        self.store = store
        self.modules = {run.directory: load_module(run.checkpoint) for run in runs}
        for run in runs:
            self.modules[run.directory].look_in(int(run.config.get("views", 1)))
        self.refiners = {
            run.directory: build_refiner(run.config.copy(), run.checkpoint) if run.refined else None for run in runs
        }
        self.parameters = {path: sum(p.numel() for p in m.parameters()) for path, m in self.modules.items()}
        """Number of parameters of each run's model, by its directory."""
        self.device = device
        self._data: dict[str, DataModule] = {}
        self._thresholds: dict[Path, dict[bool, Threshold | None]] = {}

    def threshold(self, row: System, iou: float) -> Threshold | None:
        """The score with the best F1 on the validation images of the training, None where there are none."""
        directory = row.run.directory
        if directory not in self._thresholds:
            self._thresholds[directory] = self._choose(row.run, iou)
        return self._thresholds[directory][row.refined]

    @torch.no_grad()
    def _choose(self, run: FinishedRun, iou: float) -> dict[bool, Threshold | None]:
        nothing: dict[bool, Threshold | None] = {False: None, True: None}
        module, refiner = self._ready(run), self.refiners[run.directory]
        try:
            samples = whole_samples(self._read(run.training, "fit", module.label_names), "val")
        except UserError as error:
            logger.warning("%s: no own threshold without validation images. %s", run.directory, error)
            return nothing
        if self.store is not None:
            module.store = PredictionStore.of(self.store, run.checkpoint, module)
        tested = {item.name for item in run.initial}
        found = []
        for index in range(len(samples)):
            sample: Sample = samples[index].to(self.device)
            if sample.name in tested or sample.instances is None:
                logger.warning("%s: no own threshold, %s is no validation image", run.directory, sample.name)
                return nothing
            (initial,) = module.predict_step([sample], index)
            final = initial if refiner is None else refiner(sample.image, initial)
            found.append([record(i, sample.instances, sample.image_id, sample.name) for i in (initial, final)])
        if module.store is not None:
            module.store.tell()
            module.store = None
        return {False: best_threshold([f[0] for f in found], iou), True: best_threshold([f[1] for f in found], iou)}

    def measured(self, count: int) -> dict[Path, tuple[float, float | None]]:
        """Seconds per image of each run's model and refinement on evenly spread test images; nothing for 0."""
        if count < 1:
            return {}
        images = self._tests(self.runs[0])
        chosen = torch.linspace(0, len(images) - 1, min(count, len(images))).round().int().tolist()
        samples = [images[position].to(self.device) for position in chosen]
        logger.info("timing %d models on %d images", len(self.runs), len(samples))

        def predictor(module: SegmentationModule) -> Predict:
            return lambda sample: module.predict_step([sample], 0)[0]

        models = {str(r.directory): (predictor(self._ready(r)), self.refiners[r.directory]) for r in self.runs}
        times = measure(models, samples)
        return {run.directory: times[str(run.directory)] for run in self.runs}

    def test_images(self, names: set[str]) -> Mapping[str, Tensor]:
        """The pixels of test images, as far as they are there."""
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
            logger.warning("no pictures of %s: it is not in data.root", ", ".join(sorted(names - set(found))))
        return found

    def _tests(self, run: FinishedRun) -> Samples:
        """The test images of a run: a training splits a flat folder, a test takes all of it."""
        trained = run.config.task.name == "train"
        data = self._read(run.config, "fit" if trained else "test", self.modules[run.directory].label_names)
        if trained:
            data.setup("test")
        return whole_samples(data, "test")

    def _read(self, config: DictConfig, stage: str, label_names: list[str]) -> DataModule:
        key = f"{stage} {label_names} {OmegaConf.to_yaml(config.data)}"
        if key not in self._data:
            self._data[key] = build_data(config, stage, label_names)
        return self._data[key]

    def _ready(self, run: FinishedRun) -> SegmentationModule:
        return self.modules[run.directory].to(self.device).eval()
