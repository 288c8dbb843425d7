"""Data sets of synthetic metaphases, made on demand."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.data.annotation import Annotation, instances_from_patches, tight_patch
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.dataset import training_view
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.data.labels import SINGLE
from kemr_lightning.data.synthetic.karyotype import CHROMOSOME_NAMES
from kemr_lightning.data.synthetic.scene import metaphase
from kemr_lightning.data.synthetic.settings import Metaphase, MetaphaseSettings

Split = Literal["train", "val", "test"]
_SPLITS: tuple[Split, ...] = ("train", "val", "test")


class SyntheticDataset(Dataset[Sample]):
    """A seeded set of metaphases: image ``k`` of a seed and split is always the same, whatever was requested before.

    With an augmentation, items are indexed by ``(index, epoch)``, as in `SampleDataset`.
    """

    def __init__(
        self,
        length: int,
        settings: MetaphaseSettings | None = None,
        seed: int = 0,
        split: Split = "train",
        label_map: str | None = "single",
        augmentation: Augmentation | None = None,
        scale: InputScale | None = None,
        cache_mb: int = 512,
    ) -> None:
        """Take the settings; nothing is made yet.

        Args:
            length: Number of images.
            settings: What the metaphases look like; None for the defaults of `MetaphaseSettings`.
            seed: Images of different seeds have nothing in common.
            split: Splits of one seed have nothing in common either.
            label_map: ``"single"`` for one class, None for the karyotype's 24.
            augmentation: Augmentation of training images; None gives images as they are.
            scale: How images are scaled before augmentation.
            cache_mb: Finished images are kept up to this many MiB, per process; the least recently used go first.

        Raises:
            SettingError: The length or the label map is wrong.
        """
        if length < 0:
            raise SettingError("length", length, "is negative", "Give a number of images")
        if label_map not in ("single", None):
            raise SettingError("label_map", label_map, "is unknown", "Use single, or null for 24 classes")
        self.length = length
        self.settings = settings or MetaphaseSettings()
        self.seed, self.split, self.label_map = seed, split, label_map
        self.augmentation = augmentation
        self.scale = scale or InputScale()
        self.label_names = [SINGLE] if label_map == "single" else list(CHROMOSOME_NAMES)
        self.label_ids = {name: number for number, name in enumerate(self.label_names, start=1)}
        self._cache: OrderedDict[int, tuple[npt.NDArray[np.uint8], list[Annotation], Instances]] = OrderedDict()
        self._cache_left = cache_mb * 2**20

    def __len__(self) -> int:
        return self.length

    def plain(self) -> SyntheticDataset:
        """The same images without augmentation, at their own size."""
        whole = copy.copy(self)
        whole.augmentation = None
        return whole

    def metaphase(self, index: int) -> Metaphase:
        """Make image ``index``, with everything that is known about it."""
        key = (_SPLITS.index(self.split), index)
        return metaphase(self.settings, np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key)))

    def name(self, index: int) -> str:
        """Name of an image, such as ``"test/synthetic_00001.png"`` for index 0."""
        return f"{self.split}/synthetic_{index + 1:05d}.png"

    def annotations(self, scene: Metaphase) -> list[Annotation]:
        """The chromosomes of a metaphase as outlines, which augmentation can rotate and scale without loss."""
        named = zip(self._labels(scene), scene.shapes, strict=True)
        return [Annotation(label, polygons=(shape.outline(),)) for label, shape in named]

    def instances(self, scene: Metaphase) -> Instances:
        """The chromosomes of a metaphase as exact masks: the pixels of which they cover at least half."""
        patches, labels = [], []
        for label, where in zip(self._labels(scene), scene.footprints, strict=True):
            patch = tight_patch(where.mask, where.x0, where.y0)
            if patch is not None:
                patches.append(patch)
                labels.append(self.label_ids[label])
        return instances_from_patches(patches, labels, scene.image_size)

    def _labels(self, scene: Metaphase) -> list[str]:
        """Class name of each chromosome."""
        return [SINGLE] * len(scene.names) if self.label_map == "single" else scene.names

    def _made(self, index: int) -> tuple[npt.NDArray[np.uint8], list[Annotation], Instances]:
        """Pixels, outlines and masks of an image, from the cache if they are there."""
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        scene = self.metaphase(index)
        made = scene.image, self.annotations(scene), self.instances(scene)
        self._cache[index] = made
        self._cache_left -= _held(scene.image)
        while self._cache_left < 0:
            self._cache_left += _held(self._cache.popitem(last=False)[1][0])
        return made

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """One sample.

        Args:
            key: The image's index, or ``(index, epoch)``; an index alone stands for epoch 0.

        Raises:
            IndexError: There is no such image.
        """
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        if not 0 <= index < self.length:
            raise IndexError(index)
        pixels, annotations, instances = self._made(index)
        if self.augmentation is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            whole = (int(pixels.shape[0]), int(pixels.shape[1]))
            size = self.scale.size(whole, self.scale.factor(pixels))
            pixels, instances = training_view(pixels, annotations, self.augmentation, size, self.label_ids, rng)
        return Sample(torch.from_numpy(pixels.copy()), self.name(index), index + 1, instances)

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to a worker process: everything but the cached images."""
        left = self._cache_left + sum(_held(made[0]) for made in self._cache.values())
        return {**self.__dict__, "_cache": OrderedDict(), "_cache_left": left}


def _held(image: npt.NDArray[np.uint8]) -> int:
    """Bytes that an image takes in the cache; its masks and outlines are about as large as itself."""
    return 2 * image.nbytes
