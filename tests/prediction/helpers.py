"""Predictions without a trained model: stand-ins for the module and the refiner, and runs made with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
import torch
from scipy import ndimage
from torch import Tensor

from kemr_lightning.core import rle
from kemr_lightning.core.contracts import Prediction
from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.metrics.records import Entry, ImageRecord
from kemr_lightning.prediction.image_files import ImageWriter
from kemr_lightning.prediction.image_state import ImageState, StateFolder
from kemr_lightning.prediction.inputs import Input, find_inputs
from kemr_lightning.prediction.labelme_files import LabelmeFileWriter
from kemr_lightning.prediction.result import Failure, FinishedImage, PredictionResult
from kemr_lightning.prediction.review import Review
from kemr_lightning.prediction.run_files import write_run_files
from kemr_lightning.prediction.settings import PredictSettings
from tests.conftest import rods, write_image
from tests.metrics.helpers import rod


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


class BrightDetector:
    """What a prediction asks of a detector."""

    def __init__(self, max_detections: int = 100) -> None:
        self.max_detections = max_detections


class BrightModule:
    """What a prediction asks of a trained module. It finds bright parts, with masks that are too thin."""

    label_names = ["chromosome"]  # noqa: RUF012
    scale = InputScale()
    device = torch.device("cpu")

    def __init__(self, max_detections: int = 100) -> None:
        self.seen: list[str] = []
        self.views = 1
        self.detector = BrightDetector(max_detections)

    def eval(self) -> BrightModule:
        return self

    def to(self, device: object) -> BrightModule:
        return self

    def look_in(self, views: int) -> None:
        self.views = views

    def find(self, batch: list[Sample], factor: float | None = None) -> list[Instances]:
        self.seen += [sample.name for sample in batch]
        return [eroded(bright_parts(sample.image.numpy()))[: self.detector.max_detections] for sample in batch]


def grow(image: Tensor, instances: Instances) -> Instances:
    """A refiner that finds the true masks again."""
    return bright_parts(image.numpy())


def predict_one(item: Input, number: int, writer: ImageWriter, refine: bool = True) -> ImageState:
    """Predict and write one image."""
    pixels = item.load().pixels
    truth = item.truth(["chromosome"], "single", (int(pixels.shape[0]), int(pixels.shape[1])))
    final = bright_parts(pixels)
    return writer.write(item, number, pixels, Prediction(eroded(final), final if refine else None), truth)


def writer_of(root: Path, run: Path, **settings: object) -> ImageWriter:
    """A writer into a run directory."""
    states, options = StateFolder(run, "key"), PredictSettings(**settings)  # type: ignore[arg-type]
    return ImageWriter(run, states, LabelmeFileWriter(run, root, states, ["chromosome"], options), options)


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
    settings: PredictSettings | None = None,
    failures: tuple[Failure, ...] = (),
    refine: bool = True,
) -> list[FinishedImage]:
    """Everything that ``task=predict`` leaves, without a model."""
    settings = settings or PredictSettings(expected=4)
    states = StateFolder(directory, "key")
    labelme = LabelmeFileWriter(directory, root, states, ["chromosome"], settings)
    writer = ImageWriter(directory, states, labelme, settings)
    inputs = find_inputs(root)
    finished = [
        FinishedImage(item.stem, predict_one(item, number, writer, refine))
        for number, item in enumerate(inputs, start=1)
    ]
    result = PredictionResult(len(inputs) + len(failures), finished, list(failures))
    write_run_files(directory, result, states, ["chromosome"], settings, f"{root} with a model")
    return finished


def round_rod(length: float, width: float, degrees: float, size: int = 120) -> np.ndarray:
    """A rod with round ends in the middle of a square; its length includes the ends."""
    y, x = np.mgrid[:size, :size] + 0.5
    angle = np.deg2rad(degrees)
    u = (x - size / 2) * np.cos(angle) + (y - size / 2) * np.sin(angle)
    v = (y - size / 2) * np.cos(angle) - (x - size / 2) * np.sin(angle)
    beyond = np.maximum(np.abs(u) - (length - width) / 2, 0)
    return np.hypot(beyond, v) <= width / 2


def scattered(count: int, size: tuple[int, int], seed: int) -> list[np.ndarray]:
    """Rods that cross only now and then; no two are nearly the same."""
    rng = np.random.default_rng(seed)
    masks: list[np.ndarray] = []
    while len(masks) < count:
        new = rod(rng, size)
        if new.any() and all((new & mask).sum() < 0.4 * min(new.sum(), mask.sum()) for mask in masks):
            masks.append(new)
    return masks


def entry(score: float, label: int = 1, x: int = 0, size: tuple[int, int] = (10, 40)) -> Entry:
    """A mask of 4 by 6 pixels, and its box, at a column of an image of that size."""
    code = rle.encode(Patch(x, 2, torch.ones((6, 4), dtype=torch.bool)), size)["counts"]
    return Entry(label, (float(x), 2.0, 4.0, 6.0), score, code.decode() if isinstance(code, bytes) else code, 24.0)


def state_of(
    scores: Sequence[float] = (0.9, 0.8, 0.3),
    written: Sequence[int] = (0, 1),
    truth: Sequence[Entry] | None = None,
    **changes: object,
) -> ImageState:
    """The state of an image whose predictions stand side by side, 10 pixels apart."""
    predictions = [entry(score, x=10 * position) for position, score in enumerate(scores)]
    initial = ImageRecord(3, (10, 40), "sub/b.png", list(truth or ()), predictions)
    values: dict[str, object] = {
        "key": "key",
        "version": [["1", "2"]],
        "initial": initial,
        "refined": None,
        "annotated": truth is not None,
        "written": list(written),
        "areas": [24] * len(written),
        "disagreement": None,
        "border": [True] + [False] * (len(written) - 1),
        "review": Review(12.5, ["1 of low confidence", "1 at the image's border"], [set() for _ in written]),
        "shared": 7,
        "crops": [],
        "outlines": {},
        "labelme": "labelme/sub/b.json",
        "digest": "d",
        "image": None,
        "digests": {},
        "source": ("sub/b.tif", 2),
        "seconds": 0.25,
    }
    return ImageState(**{**values, **changes})  # type: ignore[arg-type]
