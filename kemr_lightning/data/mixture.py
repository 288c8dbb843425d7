"""Training on several data sets at once: samples are drawn from each with its own weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from kemr_lightning.core.errors import SettingError, settings_under
from kemr_lightning.core.instances import Sample
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.dataset import SampleDataset
from kemr_lightning.data.loading import TrainingLoader, evaluation_loader
from kemr_lightning.data.samplers import EpochSampler, Share
from kemr_lightning.data.synthetic.datamodule import SyntheticDataModule
from kemr_lightning.data.synthetic.dataset import SyntheticDataset

Source = SegmentationDataModule | SyntheticDataModule
Part = SampleDataset | SyntheticDataset
T = TypeVar("T")


class WeightedMixture(Dataset[Sample]):
    """Draws training samples from several data sets.

    Item ``(index, epoch)`` depends on the seed, the index and the epoch alone: they decide the data set, the image and
    its augmentation.
    """

    def __init__(self, parts: Sequence[Part], weights: Sequence[float], length: int, seed: int = 0) -> None:
        """Take the data sets.

        Args:
            parts: With augmentation.
            weights: How often samples come from each, relative to the others.
            length: Samples in an epoch.
            seed: Seed of the choice.
        """
        self.parts = list(parts)
        self.chances = np.array(weights, dtype=np.float64) / sum(weights)
        self.length = length
        self.seed = seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """One sample, whose ``image_id`` is its position in the epoch, from 1."""
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        if not 0 <= index < self.length:
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, epoch, index])
        part = self.parts[int(rng.choice(len(self.parts), p=self.chances))]
        # The number of the draw, counted over all epochs, so that no two are augmented alike.
        sample = part[(int(rng.integers(len(part))), epoch * self.length + index)]
        return replace(sample, image_id=index + 1)


class Chain(Dataset[Sample]):
    """The images of several data sets one after the other, with ids of their own."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = list(parts)
        self.ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> Sample:
        """Image number ``index``."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        which = next(number for number, end in enumerate(self.ends) if index < end)
        sample = self.parts[which][index - (self.ends[which] - len(self.parts[which]))]
        return replace(sample, image_id=index + 1)

    def plain(self) -> Chain:
        """The same images without augmentation."""
        return Chain([part.plain() for part in self.parts])


class MixtureDataModule(LightningDataModule):
    """Training, validation and test samples from several data modules.

    Training samples are drawn from the sources by weight. Validation and test images are those of all sources, one
    source after the other.
    """

    def __init__(
        self,
        sources: Mapping[str, Callable[..., Source]],
        weights: Mapping[str, float] | None = None,
        validate: Sequence[str] | None = None,
        augmentation: Augmentation | None = None,
        resize: Sequence[int] | None = None,
        scale: str | None = None,
        batch_size: int = 2,
        num_workers: int = 0,
        epoch_samples: int | None = None,
        cache_mb: int = 512,
        seed: int = 0,
    ) -> None:
        """Build the sources.

        Args:
            sources: By name, what builds each data module (``_partial_: true`` in a configuration). It is given
                ``augmentation``, ``resize``, ``scale``, ``cache_mb`` and ``seed``, unless it sets them itself.
            weights: How often training samples come from each source, relative to the others; one that is not named
                has the weight 1, and one of weight 0 is only for validation and testing.
            validate: Names of the sources whose images validate and test; None for all.
            augmentation: For training samples.
            resize: See `kemr_lightning.data.input_scale.InputScale.of`.
            scale: Likewise.
            batch_size: Training samples in a batch of one process.
            num_workers: Worker processes of each loader.
            epoch_samples: Training samples in an epoch; None for as many as the sources have images.
            cache_mb: MiB of memory for decoded images, per source, part and process.
            seed: Seed of the sources, the order and the choice between the sources.

        Raises:
            SettingError: There is no source, or a weight or name is wrong.
        """
        super().__init__()
        if not sources:
            raise SettingError("sources", "{}", "are no data sets", "Give at least one: {name: {_target_: ...}}")
        weights = dict(weights or {})
        known = f"The sources are {', '.join(sources)}"
        for name, weight in weights.items():
            if name not in sources:
                raise SettingError(f"weights.{name}", weight, "is for no source", known)
            if not 0 <= weight < float("inf"):
                raise SettingError(f"weights.{name}", weight, "is not a weight", "Give a number of at least 0")
        self.weights = {name: float(weights.get(name, 1.0)) for name in sources}
        if not any(self.weights.values()):
            raise SettingError("weights", weights, "leave nothing to train on", "Give one source a weight above 0")
        self.validate = list(sources) if validate is None else list(validate)
        for name in self.validate:
            if name not in sources:
                raise SettingError("validate", name, "is no source", known)
        shared = {"augmentation": augmentation, "resize": resize, "scale": scale, "cache_mb": cache_mb, "seed": seed}
        self.sources = {name: _built(name, build, shared) for name, build in sources.items()}
        self.batch_size, self.num_workers = batch_size, num_workers
        self.epoch_samples, self.seed = epoch_samples, seed
        self.label_names: list[str] = []
        self.train: WeightedMixture | None = None
        self.val: Chain | None = None
        self.test: Chain | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs, from every source.

        Raises:
            UserError: See `SegmentationDataModule.setup`.
            SettingError: The sources have different classes.
        """
        for name, source in self.sources.items():
            if self.label_names:
                source.label_names = list(self.label_names)
            with settings_under(f"sources.{name}"):
                source.setup(stage if name in self.validate or stage is None else "train")
            self.label_names = self.label_names or list(source.label_names)
            if source.label_names != self.label_names:
                raise SettingError(
                    f"sources.{name}",
                    source.label_names,
                    f"are other classes than {self.label_names}",
                    "Map the labels",
                )
        if stage in ("fit", None):
            trained = [name for name, weight in self.weights.items() if weight > 0]
            parts = [_ready_part(self.sources[name].train) for name in trained]
            length = self.epoch_samples or sum(len(part) for part in parts)
            self.train = WeightedMixture(parts, [self.weights[name] for name in trained], length, self.seed)
        if stage in ("fit", "validate", None):
            self.val = Chain([_ready_part(self.sources[name].val) for name in self.validate])
        if stage in ("test", None):
            self.test = Chain([_ready_part(self.sources[name].test) for name in self.validate])

    def train_dataloader(self) -> DataLoader[Sample]:
        """Seeded training batches."""
        dataset = _ready(self.train)
        sampler = EpochSampler(len(dataset), self.seed, None, Share.under(self.trainer))
        return TrainingLoader(dataset, sampler, self.batch_size, self.num_workers)

    def val_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the validation images of all sources, one in a batch."""
        return self._in_order(_ready(self.val))

    def test_dataloader(self) -> DataLoader[Sample]:
        """This process's share of the test images of all sources, one in a batch."""
        return self._in_order(_ready(self.test))

    def _in_order(self, dataset: Chain) -> DataLoader[Sample]:
        return evaluation_loader(dataset, len(dataset), Share.under(self.trainer), self.num_workers)


def _ready_part(part: Part | None) -> Part:
    if part is None:
        raise RuntimeError("setup() has not prepared the data")
    return part


def _ready(dataset: T | None) -> T:
    if dataset is None:
        raise RuntimeError("setup() has not prepared the data")
    return dataset


def _built(name: str, build: Callable[..., Source], shared: Mapping[str, Any]) -> Source:
    own = getattr(build, "keywords", {})
    with settings_under(f"sources.{name}"):
        return build(**{key: value for key, value in shared.items() if key not in own})
