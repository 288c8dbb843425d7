"""Runs made by hand: the files of a test, with predictions that are annotations gone wrong, and a real small model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from kemr_lightning.assembly.build import build_module
from kemr_lightning.comparison.runs import FinishedRun
from kemr_lightning.comparison.systems import System
from kemr_lightning.core.instances import Detections, Instances
from kemr_lightning.core.run_directory import BEST, CONFIG, TIMING
from kemr_lightning.metrics.records import ImageRecord, record
from kemr_lightning.metrics.segmentation import headline
from kemr_lightning.output.result_files import ResultFilesWriter
from kemr_lightning.training.module import SegmentationModule
from tests.conftest import compose
from tests.metrics.helpers import instances as make_instances
from tests.metrics.helpers import scene

SIZE = (48, 64)
EXPERIMENTS = {"mask_rcnn": "mask_rcnn_tiny", "cascade": "cascade_mask_rcnn_tiny", "blendmask": "blendmask_tiny"}


class Fixed(nn.Module):
    """A detector that finds the same full rectangles in every image.

    Args:
        kind: Its kind.
        boxes: ``(x0, y0, x1, y1)`` of the rectangles, by falling score.
        scores: Their scores.
        parameters: Number of parameters.
    """

    max_detections, max_views = 100, 1

    def __init__(
        self, kind: str, boxes: Sequence[Sequence[float]] = (), scores: Sequence[float] = (), parameters: int = 0
    ) -> None:
        super().__init__()
        self.kind = kind
        self.boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        self.scores = torch.tensor(scores)
        self.weight = nn.Parameter(torch.empty(parameters))
        self.calls = 0

    def forward(self, images: list[Tensor], targets: object = None) -> list[Detections]:
        self.calls += len(images)
        count = len(self.boxes)
        labels, grids = torch.ones(count, dtype=torch.long), torch.ones(count, 2, 2)
        return [Detections(self.boxes, self.scores, labels, grids, self.boxes.clone()) for _ in images]

    def detect_in_views(self, image: Tensor, views: int) -> Detections:
        raise AssertionError("it looks once")


@lru_cache
def checkpoint(kind: str) -> dict[str, Any]:
    """The content of a checkpoint of the tiny model of a kind, with the weights that it starts with."""
    module = build_module(compose(f"experiment={EXPERIMENTS[kind]}"), ["chromosome"], pretrained=False)
    hyper = {"model": module.config, "label_names": module.label_names}
    return {"state_dict": module.state_dict(), "hyper_parameters": hyper}


def names(count: int) -> list[str]:
    """Two images of each slide, the last one alone if their number is odd."""
    return [f"test/case_{position // 2}{'ab'[position % 2]}.png" for position in range(count)]


def noisy_records(seed: int, images: int = 6, quality: float = 1.0, truth_seed: int = 0) -> list[ImageRecord]:
    """Records whose annotations depend on ``truth_seed`` alone; of the predictions a part ``quality`` is kept."""
    found = []
    for position, name in enumerate(names(images)):
        rng = np.random.default_rng([truth_seed, position])
        predictions, truth = scene(rng, SIZE, count=6)
        keep = np.random.default_rng([seed, position]).random(len(predictions)) < quality
        found.append(record(predictions[torch.from_numpy(keep)], truth, position + 1, name))
    return found


def config(seed: int = 0, steps: int = 100, refine: dict[str, Any] | None = None, **data: Any) -> dict[str, Any]:
    """The part of a configuration that a comparison reads."""
    return {
        "name": "made",
        "seed": seed,
        "ckpt": None,
        "init": None,
        "knowledge": None,
        "task": {"name": "train"},
        "model": {},
        "optimizer": {"lr": 0.003},
        "scheduler": {"warmup_fraction": 0.05},
        "data": {"root": "somewhere", "resize": None, "batch_size": 2, "num_workers": 0, **data},
        "refine": refine,
        "metric": {"threshold": 0.5},
        "callbacks": {"checkpoint": {"monitor": "val/MaskAP"}},
        "trainer": {"max_steps": steps, "max_epochs": -1},
        "paths": {"store": None},
    }


def write_run(
    directory: Path,
    initial: list[ImageRecord],
    refined: list[ImageRecord] | None = None,
    kind: str | None = None,
    timing: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """The directory of a finished training; without a kind its checkpoint is an empty file."""
    refine = None if refined is None else {"sigma_alpha": 2.0}
    figures = {"initial": headline(initial)} | ({} if refined is None else {"refined": headline(refined)})
    ResultFilesWriter(directory, ["chromosome"]).write(initial, refined, figures)
    OmegaConf.save(OmegaConf.create(config(refine=refine, **settings)), directory / CONFIG)
    (directory / BEST).parent.mkdir()
    if kind is None:
        (directory / BEST).touch()
    else:
        torch.save(checkpoint(kind), directory / BEST)
    if timing is not None:
        (directory / TIMING).write_text(json.dumps(timing))
    return directory


def made_run(
    initial: list[ImageRecord],
    refined: list[ImageRecord] | None = None,
    kind: str = "mask_rcnn",
    directory: str | Path = "runs/made",
    timing: dict[str, Any] | None = None,
    detector: nn.Module | None = None,
    **settings: Any,
) -> FinishedRun:
    """A run that was never written."""
    settled = OmegaConf.create(config(refine=None if refined is None else {"sigma_alpha": 2.0}, **settings))
    path = Path(directory)
    return FinishedRun(
        path,
        settled,
        settled,
        path / BEST,
        SegmentationModule(detector or Fixed(kind)),
        initial,
        initial if refined is None else refined,
        refined is not None,
        timing or {},
    )


def system(name: str, records: list[ImageRecord], kind: str = "mask_rcnn") -> System:
    """A row with given predictions."""
    return System(kind, name, made_run(records), refined=False)


def one_image(
    truth: list[np.ndarray], found: list[np.ndarray], scores: list[float], image_id: int = 1, name: str = "a.png"
) -> ImageRecord:
    """A record of given masks of one class."""
    predicted = make_instances(found, SIZE, [1] * len(found), scores)
    return record(predicted, make_instances(truth, SIZE, [1] * len(truth), [1.0] * len(truth)), image_id, name)


def box_mask(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """A rectangle on ``(48, 64)``, x1 and y1 exclusive."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def nothing(image_id: int = 1) -> ImageRecord:
    """An image without annotations and predictions."""
    return record(Instances.empty(SIZE), Instances.empty(SIZE), image_id)
