"""A small predicted run made by code: a stand-in for a model, and the files it leads to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from scipy import ndimage
from torch import Tensor

from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.prediction.image_files import ImageWriter, WriterOptions
from kemr_lightning.prediction.image_state import ImageState, StateFolder
from kemr_lightning.prediction.inference import Prediction
from kemr_lightning.prediction.inputs import Input, find_inputs
from kemr_lightning.prediction.run_files import Failure, write_run_files
from tests.conftest import rods, write_image


def bright_parts(pixels: npt.NDArray[np.uint8]) -> Instances:
    """Every bright part of an image as an instance; the scores fall with its number."""
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    parts, count = ndimage.label(ndimage.binary_opening(pixels > 110))
    patches, boxes = [], []
    for rows, columns in ndimage.find_objects(parts):
        values = (parts[rows, columns] > 0).astype(np.float32)
        patches.append(Patch(columns.start, rows.start, torch.from_numpy(values)))
        boxes.append([columns.start, rows.start, columns.stop, rows.stop])
    scores = torch.linspace(0.98, 0.4, count) if count else torch.zeros(0)
    labels = torch.ones(count, dtype=torch.int64)
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Instances(size, corners, scores, labels, patches, torch.full((count,), 0.02))


def eroded(instances: Instances) -> Instances:
    """The same with thinner masks."""
    patches = [
        Patch(p.x0, p.y0, torch.from_numpy(ndimage.binary_erosion(p.values.numpy() > 0.5).astype(np.float32)))
        for p in instances.patches or []
    ]
    return Instances(
        instances.image_size, instances.boxes, instances.scores, instances.labels, patches, instances.disagreement
    )


class BrightModule:
    """What `task=predict` asks of a trained module."""

    label_names = ["chromosome"]  # noqa: RUF012
    input_size = None
    device = torch.device("cpu")
    detector = None

    def __init__(self) -> None:
        self.seen: list[str] = []

    def eval(self) -> BrightModule:
        return self

    def to(self, device: object) -> BrightModule:
        return self

    def find(self, batch: list[Sample]) -> list[Instances]:
        self.seen += [sample.name for sample in batch]
        return [eroded(bright_parts(sample.image.numpy())) for sample in batch]


def grow(image: Tensor, instances: Instances) -> Instances:
    """A refiner that finds the true masks again."""
    return bright_parts(image.numpy())


def predict_one(item: Input, number: int, writer: ImageWriter, refine: bool = True) -> ImageState:
    """Predict and write one image."""
    pixels = item.load().pixels
    truth = item.truth(["chromosome"], "single", (int(pixels.shape[0]), int(pixels.shape[1])))
    final = bright_parts(pixels)
    prediction = Prediction(eroded(final), final if refine else None, torch.zeros(len(final), dtype=torch.bool))
    return writer.write(item, number, pixels, prediction, truth)


def writer_of(root: Path, run: Path, **options: object) -> ImageWriter:
    """A writer into a run directory."""
    return ImageWriter(run, root, StateFolder(run, "key"), ["chromosome"], WriterOptions(**options))  # type: ignore[arg-type]


def mixed_folder(root: Path) -> Path:
    """Two PNGs, one with annotations, and a TIFF of two pages in a folder below."""
    write_image(root, "a", seed=1)
    write_image(root, "b", seed=2, annotated=False)
    (root / "sub").mkdir()
    tifffile.imwrite(root / "sub" / "c.tif", np.stack([rods(3)[0], rods(4)[0]]), photometric="minisblack")
    return root


def predict_folder(
    root: Path,
    directory: Path,
    options: WriterOptions | None = None,
    failures: tuple[Failure, ...] = (),
    refine: bool = True,
) -> list[tuple[str, ImageState]]:
    """Everything that ``task=predict`` leaves, without a model."""
    options = options or WriterOptions(expected=4)
    states = StateFolder(directory, "key")
    writer = ImageWriter(directory, root, states, ["chromosome"], options)
    inputs = find_inputs(root)
    done = [(item.stem, predict_one(item, number, writer, refine)) for number, item in enumerate(inputs, start=1)]
    write_run_files(directory, done, failures, ["chromosome"], options, f"{root} with a model", states)
    return done
