"""The files of one predicted image: Labelme JSON with its image, crops, a picture for the report, and its state."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from kemr_lightning.core.contracts import Prediction
from kemr_lightning.core.files import atomic_write
from kemr_lightning.core.instances import Instances
from kemr_lightning.core.run_directory import CROPS
from kemr_lightning.metrics.records import record
from kemr_lightning.prediction.chromosome_crops import (
    background_intensity,
    measure_chromosome,
    shared_pixels,
    upright_crop,
)
from kemr_lightning.prediction.image_state import ImageState, StateFolder
from kemr_lightning.prediction.inputs import Input
from kemr_lightning.prediction.labelme_files import LabelmeFileWriter
from kemr_lightning.prediction.report.svg import svg_path
from kemr_lightning.prediction.review import instance_facts, review_image
from kemr_lightning.prediction.settings import PredictSettings


class ImageWriter:
    """Writes all files of single images into a run directory.

    Args:
        directory: The run directory.
        states: The run directory's states.
        labelme: Writes the Labelme files.
        settings: The prediction's settings.
    """

    def __init__(
        self, directory: Path, states: StateFolder, labelme: LabelmeFileWriter, settings: PredictSettings
    ) -> None:
        self.crops = directory / CROPS
        self.states = states
        self.labelme = labelme
        self.settings = settings

    def write(
        self,
        item: Input,
        image_id: int,
        pixels: npt.NDArray[np.uint8],
        prediction: Prediction,
        truth: Instances | None,
        seconds: float = 0.0,
    ) -> ImageState:
        """Write the files of an image; its state comes last.

        Args:
            item: Where the image came from.
            image_id: From 1.
            pixels: ``(H, W)`` uint8.
            prediction: What was found in it, with masks.
            truth: Its annotations, or None.
            seconds: How long the prediction took.

        Returns:
            Its state.

        Raises:
            UserError: The Labelme file cannot be written.
            OSError: Another file cannot be written.
        """
        chosen = self._chosen(prediction.final)
        kept = prediction.final[chosen]
        facts = instance_facts(prediction, chosen)
        review = review_image(facts, self.settings.expected)
        shared, shared_each = shared_pixels(kept)
        annotations = Instances.empty(kept.image_size) if truth is None else truth
        records = [record(found, annotations, image_id, item.image_name) for _, found in prediction.layers()]
        self._write_picture(item, pixels)
        crops = self._write_crops(item, pixels, kept, shared_each) if self.settings.crops else []
        # What a person works on comes last: were the run to end in between, it would be there without its state.
        labelme = self.labelme.write(item, pixels, kept, review)
        state = ImageState(
            key=self.states.key,
            version=item.version(),
            initial=records[0],
            refined=records[1] if len(records) > 1 else None,
            annotated=truth is not None,
            written=torch.nonzero(chosen)[:, 0].tolist(),
            areas=facts.areas,
            disagreement=facts.disagreement,
            border=facts.border,
            review=review,
            shared=shared,
            crops=crops,
            outlines=_outlines(prediction, chosen, truth),
            labelme=str(labelme.file),
            digest=labelme.digest,
            image=str(labelme.image) if labelme.image.is_file() else None,
            digests=self.states.digests(item.stem),
            source=item.source,
            seconds=round(seconds, 3),
        )
        self.states.save(item.stem, state)
        return state

    def _chosen(self, final: Instances) -> Tensor:
        """``(N,)`` bool: which instances go into Labelme files, crops and counts."""
        # A mask may be empty after refinement; there is nothing to show of it.
        there = torch.tensor([patch.area() > 0 for patch in final.patches or []], dtype=torch.bool)
        return (final.scores >= self.settings.score) & there

    def _write_picture(self, item: Input, pixels: npt.NDArray[np.uint8]) -> None:
        """Write the JPEG that the report shows."""
        scale = min(1.0, self.settings.report_side / max(pixels.shape))
        if scale < 1:
            size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        with atomic_write(self.states.picture(item.stem)) as temporary:
            Image.fromarray(pixels).save(temporary, quality=80, optimize=True)

    def _write_crops(
        self, item: Input, pixels: npt.NDArray[np.uint8], kept: Instances, shared_each: Sequence[int]
    ) -> list[dict[str, Any]]:
        """Cut out every chromosome and return the columns of the crop index that are about them."""
        folder = self.crops / item.stem
        if folder.is_dir():
            shutil.rmtree(folder)
        ground = background_intensity(pixels, kept)
        rows = []
        for number, (patch, shared) in enumerate(zip(kept.patches or [], shared_each, strict=True), start=1):
            measured = measure_chromosome(pixels, patch)
            if measured is None:
                continue
            file = folder / f"{number:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(upright_crop(pixels, patch, measured.angle, ground, self.settings.crop_scale)).save(file)
            place = file.relative_to(self.crops).as_posix()
            rows.append({"file": place, "instance": number, "shared_pixels": shared, **measured.row()})
        return rows


def _outlines(prediction: Prediction, chosen: Tensor, truth: Instances | None) -> dict[str, list[str]]:
    """The report's paths of the written instances, before and after refinement, and of the annotations."""
    layers = {name: found[chosen] for name, found in prediction.layers()}
    if truth is not None:
        layers["truth"] = truth
    return {name: [svg_path(patch) for patch in instances.patches or []] for name, instances in layers.items()}
