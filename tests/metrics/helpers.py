"""Made-up annotations and predictions: rods with noise, misses, false alarms, ties of scores, several classes."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kemr_lightning.core.instances import Instances, Patch

Images = list[tuple[Instances, Instances]]
"""Predictions and annotations of images 1, 2, ..."""


def rod(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A rotated rod, ``(H, W)`` bool."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    cy, cx = rng.uniform(4, height - 4), rng.uniform(4, width - 4)
    angle, long, short = rng.uniform(0, np.pi), rng.uniform(6, 16), rng.uniform(2, 4)
    u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    v = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
    return (abs(u) < long) & (abs(v) < short)


def patch(mask: np.ndarray) -> Patch:
    rows, columns = np.nonzero(mask)
    window = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return Patch(int(columns.min()), int(rows.min()), torch.from_numpy(window.copy()))


def instances(masks: list[np.ndarray], size: tuple[int, int], labels: list[int], scores: list[float]) -> Instances:
    if not masks:
        return Instances.empty(size)
    patches = [patch(mask) for mask in masks]
    return Instances(
        size,
        torch.tensor([p.window for p in patches], dtype=torch.float32),
        torch.tensor(scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
        patches,
    )


def scene(
    rng: np.random.Generator, size: tuple[int, int] = (48, 64), classes: int = 1, count: int | None = None
) -> tuple[Instances, Instances]:
    """Predictions and annotations of one image."""
    count = int(rng.integers(0, 8)) if count is None else count
    truth = [rod(rng, size) for _ in range(count)]
    labels = [int(v) for v in rng.integers(1, classes + 1, count)]
    found, found_labels = [], []
    for mask, label in zip(truth, labels, strict=True):
        for _ in range(int(rng.choice([0, 1, 1, 1, 2]))):
            shifted = np.roll(mask, tuple(rng.integers(-2, 3, 2)), (0, 1))
            found.append(shifted)
            found_labels.append(label if rng.random() < 0.9 else int(rng.integers(1, classes + 1)))
    for _ in range(int(rng.integers(0, 3))):
        found.append(rod(rng, size))
        found_labels.append(int(rng.integers(1, classes + 1)))
    scores = [float(v) for v in rng.integers(1, 10, len(found)) / 10]  # coarse, so that scores tie
    predictions = instances(found, size, found_labels, scores)
    predictions.boxes = predictions.boxes + torch.from_numpy(rng.normal(0, 0.7, (len(found), 4))).float()
    return predictions, instances(truth, size, labels, [1.0] * count)


def boxes_only(instances: Instances) -> Instances:
    return Instances(instances.image_size, instances.boxes, instances.scores, instances.labels, None)


def square(x: int, y: int, side: int = 10) -> tuple[list[float], Patch]:
    return [x, y, x + side, y + side], Patch(x, y, torch.ones((side, side), dtype=torch.bool))


def of_squares(*items: tuple[int, int, float, int]) -> Instances:
    """Squares of 10 x 10 pixels on an image of 50 x 50: ``(x, y, score, label)``."""
    made = [square(x, y) for x, y, _, _ in items]
    return Instances(
        (50, 50),
        torch.tensor([box for box, _ in made], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([score for _, _, score, _ in items], dtype=torch.float32),
        torch.tensor([label for *_, label in items], dtype=torch.int64),
        [p for _, p in made],
    )


def with_crowds(truth: Instances, crowds: Instances) -> Instances:
    return replace(truth, ignored=crowds if len(crowds) else None)


def reference(images: Images, kind: str, boxes_only: bool = False, most: int = 100) -> COCOeval:
    """pycocotools on full frames, knowing nothing of the package's records."""
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    results = []
    crowds = [target.ignored or Instances.empty(target.image_size) for _, target in images]
    labels = {int(v) for pair in (*images, crowds) for side in pair for v in side.labels}
    truth["categories"] = [{"id": v, "name": str(v)} for v in labels]
    for image_id, (predictions, target) in enumerate(images, 1):
        height, width = target.image_size
        truth["images"].append({"id": image_id, "height": height, "width": width})
        for which, side in (("t", target), ("c", crowds[image_id - 1]), ("p", predictions)):
            frames = side.masks().numpy() if not boxes_only else [None] * len(side)
            for frame, box, score, label in zip(
                frames, side.boxes.double().tolist(), side.scores.double().tolist(), side.labels.tolist(), strict=True
            ):
                x0, y0, x1, y1 = box
                one = {"image_id": image_id, "category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0]}
                one["iscrowd"] = int(which == "c")
                one["area"] = (x1 - x0) * (y1 - y0) if frame is None else int(frame.sum())
                if frame is not None:
                    one["segmentation"] = coco_mask.encode(np.asfortranarray(frame.astype(np.uint8)))
                if which in "tc":
                    truth["annotations"].append({"id": len(truth["annotations"]) + 1, **one})
                else:
                    results.append({**one, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), kind)
        evaluation.params.maxDets = [1, 10, most]
        evaluation.evaluate()
        evaluation.accumulate()
        if most == 100:
            evaluation.summarize()  # it knows no other maximum
    return evaluation
