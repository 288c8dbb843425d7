"""Loaders over synthetic metaphases; to a trainer they are the same as those over a data folder."""

from __future__ import annotations

from collections.abc import Sequence

from lightning import LightningDataModule
from torch.utils.data import DataLoader

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Sample
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.data.loading import TrainingLoader, evaluation_loader
from kemr_lightning.data.samplers import EpochSampler, Share
from kemr_lightning.data.synthetic.dataset import Split, SyntheticDataset
from kemr_lightning.data.synthetic.settings import MetaphaseSettings


class SyntheticDataModule(LightningDataModule):
    """Training, validation and test metaphases without anything in common."""

    def __init__(
        self,
        train_images: int = 200,
        val_images: int = 20,
        test_images: int = 40,
        size: Sequence[int] | None = None,
        count: int | Sequence[int] | None = None,
        look: str = "mixed",
        overlap: float | None = None,
        width: float | Sequence[float] | None = None,
        scene: str = "plain",
        label_map: str | None = "single",
        augmentation: Augmentation | None = None,
        resize: Sequence[int] | None = None,
        scale: str | None = None,
        batch_size: int = 2,
        num_workers: int = 0,
        epoch_samples: int | None = None,
        cache_mb: int = 512,
        seed: int = 0,
    ) -> None:
        """Take the settings; images are made when a loader requests them.

        Args:
            train_images: Number of different training images.
            val_images: Number of validation images.
            test_images: Number of test images.
            size: ``(width, height)`` of the images; None for ``resize`` or 768x576, in clinical scenes for drawn sizes.
            count: See `MetaphaseSettings`, as for the next four.
            look: ``"gband"``, ``"qband"``, ``"dapi"``, ``"fluorescence"`` or ``"mixed"``.
            overlap: Fraction of the chromosomes laid across or against others.
            width: Typical chromosome width in pixels, or a range.
            scene: ``"plain"`` or ``"clinical"``.
            label_map: ``"single"`` for one class, None for 24.
            augmentation: Augmentation of training images; None trains on complete images as they are.
            resize: ``(width, height)`` that training images are fitted into.
            scale: See `InputScale.of`.
            batch_size: Training images in a batch of one process; evaluation batches have one.
            num_workers: Number of worker processes of every loader.
            epoch_samples: Training samples in an epoch; None takes every image once.
            cache_mb: Memory for finished images, MiB per data set and process.
            seed: Seed of the images, their order and the augmentation.

        Raises:
            SettingError: An argument is out of range.
        """
        super().__init__()
        self.scale, self.seed, self.epoch_samples = InputScale.of(resize, scale), seed, epoch_samples
        self.batch_size, self.num_workers = batch_size, num_workers
        for split, length in (("train", train_images), ("val", val_images), ("test", test_images)):
            if length < 1:
                raise SettingError(f"{split}_images", length, "leaves nothing to work on", "Give at least 1")
        settings = MetaphaseSettings(size or _usual_size(scene, resize), count, look, overlap, width, scene)

        def part(split: Split, length: int, augmentation: Augmentation | None = None) -> SyntheticDataset:
            return SyntheticDataset(length, settings, seed, split, label_map, augmentation, self.scale, cache_mb)

        self.train = part("train", train_images, augmentation)
        self.val = part("val", val_images)
        self.test = part("test", test_images)
        self.label_names = list(self.train.label_names)

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002
        """Check the classes; there is nothing to read.

        Raises:
            SettingError: A checkpoint has other classes than these images.
        """
        one_each = len(self.label_names) == len(self.train.label_names) == 1
        if not one_each and self.label_names != self.train.label_names:
            raise SettingError(
                "label_map",
                self.train.label_map,
                f"gives the synthetic images the classes {self.train.label_names}, but the model has "
                f"{self.label_names}",
                f"Try {'single' if len(self.label_names) == 1 else 'null'}",
            )

    def train_dataloader(self) -> DataLoader[Sample]:
        """Seeded, shuffled training batches."""
        sampler = EpochSampler(len(self.train), self.seed, self.epoch_samples, Share.under(self.trainer))
        return TrainingLoader(self.train, sampler, self.batch_size, self.num_workers)

    def val_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the validation images in order, one per batch."""
        return self._in_order(self.val)

    def test_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the test images in order, one per batch."""
        return self._in_order(self.test)

    def _in_order(self, dataset: SyntheticDataset) -> DataLoader[Sample]:
        return evaluation_loader(dataset, len(dataset), Share.under(self.trainer), self.num_workers)


def _usual_size(scene: str, resize: Sequence[int] | None) -> Sequence[int] | None:
    """``(width, height)`` of images whose size is not given; None if it is drawn for each."""
    if scene == "clinical":
        return None
    return (768, 576) if resize is None else resize
