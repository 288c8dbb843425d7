"""Runs made by hand: the files of a test, with predictions that are annotations gone wrong, and a real small model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from kemr_lightning.comparison.runs import FinishedRun
from kemr_lightning.comparison.systems import System
from kemr_lightning.core.instances import Instances
from kemr_lightning.metrics.records import ImageRecord, record
from kemr_lightning.metrics.segmentation import headline
from kemr_lightning.output.coco_results import CocoResultsWriter
from tests.metrics.helpers import instances as make_instances
from tests.metrics.helpers import rod, scene

SIZE = (48, 64)
MASK_RCNN = {"_target_": "kemr_lightning.models.build.two_stage", "heads": {"variant": None}}
CASCADE = {"_target_": "kemr_lightning.models.build.two_stage", "heads": {"variant": "mmdetection"}}
BLENDMASK = {"_target_": "kemr_lightning.models.blendmask.blendmask"}


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
        "callbacks": {"refinement": {"metric": {"threshold": 0.5}}, "checkpoint": {"monitor": "val/MaskAP"}},
        "trainer": {"max_steps": steps, "max_epochs": -1},
        "paths": {"store": None},
    }


def write_run(
    directory: Path,
    initial: list[ImageRecord],
    refined: list[ImageRecord] | None = None,
    model: dict[str, Any] | None = None,
    timing: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """The directory of a finished training."""
    refine = None if refined is None else {"sigma_alpha": 2.0}
    figures = {"initial": headline(initial)} | ({} if refined is None else {"refined": headline(refined)})
    CocoResultsWriter(directory, ["chromosome"]).write(initial, refined, figures)
    (directory / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(config(refine=refine, **settings))))
    (directory / "checkpoints").mkdir()
    hyper = {"model": model or MASK_RCNN, "label_names": ["chromosome"]}
    torch.save({"state_dict": {}, "hyper_parameters": hyper}, directory / "checkpoints" / "best.ckpt")
    if timing is not None:
        (directory / "timing.json").write_text(json.dumps(timing))
    return directory


def made_run(
    initial: list[ImageRecord],
    refined: list[ImageRecord] | None = None,
    model: dict[str, Any] | None = None,
    directory: str = "runs/made",
    timing: dict[str, Any] | None = None,
    **settings: Any,
) -> FinishedRun:
    """A run that was never written."""
    settled = OmegaConf.create(config(refine=None if refined is None else {"sigma_alpha": 2.0}, **settings))
    path = Path(directory)
    return FinishedRun(
        path,
        settled,
        settled,
        path / "checkpoints" / "best.ckpt",
        model or MASK_RCNN,
        initial,
        initial if refined is None else refined,
        refined is not None,
        timing or {},
    )


def system(name: str, records: list[ImageRecord], kind: str = "mask_rcnn") -> System:
    """A row with given predictions."""
    return System(kind, name, made_run(records), refined=False)


def rods(count: int, seed: int = 0) -> list[np.ndarray]:
    """Masks ``(48, 64)``."""
    rng = np.random.default_rng(seed)
    return [rod(rng, SIZE) for _ in range(count)]


def shifted(mask: np.ndarray, pixels: int) -> np.ndarray:
    """A mask some columns to the right."""
    return np.roll(mask, pixels, axis=1)


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
