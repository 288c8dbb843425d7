"""Loaders over synthetic metaphases, the same to a trainer as those over a data folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Sample
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.loading import TrainingLoader, evaluation_loader
from kemr_lightning.data.samplers import EpochSampler, Share
from kemr_lightning.data.synthetic.dataset import Split, SyntheticDataset


class SyntheticDataModule(LightningDataModule):
    """Training, validation and test metaphases that have nothing in common; prediction takes the test images."""

    def __init__(
        self,
        train_images: int = 200,
        val_images: int = 20,
        test_images: int = 40,
        size: Sequence[int] | None = None,
        count: int | Sequence[int] | None = None,
        look: str = "mixed",
        overlap: float = 0.35,
        width: float | None = None,
        label_map: str | None = "single",
        augmentation: Augmentation | None = None,
        resize: Sequence[int] | None = None,
        batch_size: int = 2,
        num_workers: int = 0,
        epoch_samples: int | None = None,
        cache_mb: int = 512,
        seed: int = 0,
    ) -> None:
        """Take the settings; images are made when a loader asks for them.

        Args:
            train_images: Number of different training images.
            val_images: Number of validation images.
            test_images: Number of test images.
            size: ``(width, height)`` of the images; None for ``resize``, or 768x576 without one.
            count: See `SyntheticDataset`, as for all that follows to ``label_map``.
            look: ``"gband"``, ``"fluorescence"`` or ``"mixed"``.
            overlap: Part of the chromosomes laid across or against others.
            width: Typical chromosome width in pixels.
            label_map: ``"single"``, or None for 24 classes.
            augmentation: For training images; None trains on whole images as they are.
            resize: ``(width, height)`` that training images are fitted into.
            batch_size: Training images in a batch of one process; evaluation has 1.
            num_workers: Worker processes of every loader.
            epoch_samples: Training samples in an epoch; None takes every image once.
            cache_mb: Memory for images made, per data set and process.
            seed: Seed of the images, their order and the augmentation.

        Raises:
            UserError: An argument is out of range.
        """
        super().__init__()
        self.resize = resize
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.epoch_samples = epoch_samples
        self.seed = seed
        common: dict[str, Any] = {
            "size": size if size is not None else resize if resize is not None else (768, 576),
            "count": count,
            "look": look,
            "overlap": overlap,
            "width": width,
            "seed": seed,
            "label_map": label_map,
            "cache_mb": cache_mb,
        }
        lengths: dict[Split, int] = {"train": train_images, "val": val_images, "test": test_images}
        for split, length in lengths.items():
            if length < 1:
                raise UserError(f"data.{split}_images={length} leaves nothing to work on. Give at least 1.")
        self.train = SyntheticDataset(train_images, split="train", augmentation=augmentation, resize=resize, **common)
        self.val = SyntheticDataset(val_images, split="val", **common)
        self.test = SyntheticDataset(test_images, split="test", **common)
        self.label_names = list(self.train.label_names)

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Nothing has to be read.

        Raises:
            UserError: A checkpoint knows other classes than these images have.
        """
        one_each = len(self.label_names) == len(self.train.label_names) == 1
        if not one_each and self.label_names != self.train.label_names:
            cure = "single" if len(self.label_names) == 1 else "null"
            raise UserError(
                f"the model's classes {self.label_names} are not those of the synthetic images, "
                f"{self.train.label_names}. Try data.label_map={cure}."
            )

    def train_dataloader(self) -> DataLoader[Sample]:
        """Seeded, shuffled training batches."""
        sampler = EpochSampler(len(self.train), self.seed, self.epoch_samples, Share.under(self.trainer))
        return TrainingLoader(self.train, sampler, self.batch_size, self.num_workers)

    def val_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the validation images in order, one a batch."""
        return self._in_order(self.val)

    def test_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the test images in order, one a batch."""
        return self._in_order(self.test)

    def predict_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the test images in order, one a batch."""
        return self._in_order(self.test)

    def _in_order(self, dataset: SyntheticDataset) -> DataLoader[Sample]:
        return evaluation_loader(dataset, len(dataset), Share.under(self.trainer), self.num_workers)
