"""Made-up annotations and predictions: rods with noise, misses, false alarms, ties of scores, several classes."""

from __future__ import annotations

import numpy as np
import torch

from kemr_lightning.core.instances import Instances, Patch


def rod(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A turned rod, ``(H, W)`` bool."""
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
