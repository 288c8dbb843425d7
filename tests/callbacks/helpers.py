"""A tiny module, data and refiner with the seams of the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kemr_lightning.core.instances import Instances, Patch, Sample
from tests.metrics.helpers import scene

SIZE = (48, 64)


def samples(count: int = 4, seed: int = 0, classes: int = 2) -> tuple[list[Sample], dict[int, Instances]]:
    """Images with annotations, and what a detector finds in them, by image id."""
    rng = np.random.default_rng(seed)
    made, found = [], {}
    for image_id in range(1, count + 1):
        predictions, truth = scene(rng, SIZE, classes, count=5)
        image = torch.from_numpy(rng.integers(0, 255, SIZE, dtype=np.uint8))
        made.append(Sample(image, f"test/{image_id}.png", image_id, truth))
        found[image_id] = predictions
    return made, found


class FakeModule(pl.LightningModule):
    """One weight that learns to be 1; its predictions are given."""

    def __init__(self, found: dict[int, Instances]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.found = found
        self.seen: list[float] = []

    def training_step(self, batch: list[Sample], batch_idx: int) -> Tensor:
        loss = ((self.weight - 1) ** 2).sum()
        self.log_dict({"train/loss": loss, "train/loss_mask": loss / 2}, prog_bar=True, batch_size=len(batch))
        return loss

    def predict_step(self, batch: list[Sample], batch_idx: int) -> list[Instances]:
        self.seen.append(float(self.weight))
        return [self.found[sample.image_id] for sample in batch]

    validation_step = test_step = predict_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(items: Sequence[Sample]) -> DataLoader[Sample]:
    return DataLoader(items, batch_size=2, collate_fn=list)  # type: ignore[arg-type]


def eroding(image: Tensor, instances: Instances) -> Instances:
    """A refiner that takes the first column of every mask away."""
    assert image.dtype == torch.uint8
    patches = []
    for patch in instances.patches or []:
        values = patch.values.clone()
        values[:, 0] = False
        patches.append(Patch(patch.x0, patch.y0, values))
    return Instances(instances.image_size, instances.boxes, instances.scores, instances.labels, patches)


def trainer(directory: Path, callbacks: list[pl.Callback], **options: Any) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=directory,
        callbacks=callbacks,
        accelerator="cpu",
        **{"devices": 1, "logger": False, "max_epochs": 2, "enable_progress_bar": False, "enable_checkpointing": False}
        | {"enable_model_summary": False, "log_every_n_steps": 1}
        | options,
    )
