"""The files of a prediction: Labelme files with their images, COCO results, pictures and a table."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from PIL import Image
from typing_extensions import override

from kemr_lightning.callbacks.refinement import Outcome, RefinementCallback
from kemr_lightning.data.image import IMAGE_SUFFIXES
from kemr_lightning.data.labelme import write_labelme
from kemr_lightning.instances import Instances, Sample
from kemr_lightning.metrics.records import ImageRecord, record
from kemr_lightning.output.coco_results import results
from kemr_lightning.output.figures import mask_picture
from kemr_lightning.output.files import whole, write_json


class PredictionWriter(pl.Callback):
    """Writes each image's files as soon as it is predicted, and those of all images at the end.

    It comes after the `RefinementCallback`, which knows the last batch's instances before and after refinement.

    Args:
        directory: The run directory.
        label_names: Names of labels 1, 2, ...
        score: Instances below it are left out of Labelme files, pictures and counts.
        overlays: Whether to draw pictures.
    """

    def __init__(self, directory: Path, label_names: Sequence[str], score: float = 0.5, overlays: bool = True) -> None:
        self.directory = directory
        self.label_names = label_names
        self.score = score
        self.overlays = overlays
        self.records: list[ImageRecord] = []
        self.rows: list[dict[str, Any]] = []

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
        """Write the Labelme file and the picture of each image of a batch."""
        refinement = next(item for item in trainer.callbacks if isinstance(item, RefinementCallback))  # type: ignore[attr-defined]
        for outcome in refinement.latest:
            self._write(outcome)

    @override
    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the files about all images."""
        write_json(self.directory / "predictions.json", results(self.records))
        images = [
            {"id": item.image_id, "file_name": item.name, "width": item.size[1], "height": item.size[0]}
            for item in self.records
        ]
        write_json(self.directory / "images.json", images, indent=1)
        with whole(self.directory / "summary.csv") as path, path.open("w", newline="", encoding="utf-8") as stream:
            table = csv.DictWriter(stream, ["image_id", "file_name", "width", "height", "instances", "mean_score"])
            table.writeheader()
            table.writerows(self.rows)

    def _write(self, outcome: Outcome) -> None:
        sample, final = outcome.sample, outcome.final.to("cpu")
        kept = final[final.scores >= self.score]
        self.records.append(record(final, Instances.empty(sample.image_size), sample.image_id, sample.name))
        height, width = sample.image_size
        self.rows.append(
            {
                "image_id": sample.image_id,
                "file_name": sample.name,
                "width": width,
                "height": height,
                "instances": len(kept),
                "mean_score": round(float(kept.scores.mean()), 4) if len(kept) else "",
            }
        )
        image = self._copy(sample)
        # Two images that differ in their ending alone keep one JSON each.
        beside = image.with_suffix(".json")
        write_labelme(beside if not beside.exists() else Path(f"{image}.json"), image, kept, self.label_names)
        if self.overlays:
            path = self.directory / "overlays" / f"{sample.name}.png"
            mask_picture(sample, outcome.initial, outcome.refined, path, self.score)

    def _copy(self, sample: Sample) -> Path:
        """The image's copy in the Labelme folder: the file itself, or a PNG where it has no file of its own."""
        image = self.directory / "labelme" / sample.name
        image.parent.mkdir(parents=True, exist_ok=True)
        if sample.path is not None and Path(sample.path).suffix.lower() in IMAGE_SUFFIXES:
            shutil.copyfile(sample.path, image)
            return image
        image = image.with_suffix(".png")
        Image.fromarray(sample.image.cpu().numpy()).save(image)
        return image
