"""Synthetic metaphases as data sets of `Sample`s, made on demand."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.data.annotation import Annotation, instances_from_patches, tight_patch
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.dataset import training_view
from kemr_lightning.data.labels import SINGLE
from kemr_lightning.data.synthetic.karyotype import CHROMOSOME_NAMES
from kemr_lightning.data.synthetic.scene import LOOKS, Metaphase, metaphase

Split = Literal["train", "val", "test"]
_SPLITS: tuple[Split, ...] = ("train", "val", "test")


class SyntheticDataset(Dataset[Sample]):
    """A seeded set of metaphases: image ``k`` of a seed and split is always the same, whatever is asked for before it.

    With an augmentation, an item is asked for as ``(index, epoch)``, as in `SampleDataset`.
    """

    def __init__(
        self,
        length: int,
        size: Sequence[int] = (768, 576),
        count: int | Sequence[int] | None = None,
        look: str = "mixed",
        overlap: float = 0.35,
        width: float | None = None,
        seed: int = 0,
        split: Split = "train",
        label_map: str | None = "single",
        augmentation: Augmentation | None = None,
        resize: Sequence[int] | None = None,
        cache_mb: int = 512,
    ) -> None:
        """Take the settings; nothing is made yet.

        Args:
            length: Number of images.
            size: ``(width, height)`` in pixels.
            count: Chromosomes in an image, a number or a range ``(lowest, highest)``; None for a whole cell of 46, or
                fewer where the image is too small for one.
            look: ``"gband"`` (dark on bright), ``"fluorescence"`` (bright on dark) or ``"mixed"`` (either, by chance).
            overlap: Part of the chromosomes that are laid across others or against them, in [0, 1].
            width: Typical width of a chromosome in pixels; None to let it follow the image's size.
            seed: Images of different seeds have nothing in common.
            split: Splits of one seed have nothing in common either.
            label_map: ``"single"`` for one class, None for the karyotype's 24.
            augmentation: For training; None gives images as they are.
            resize: ``(width, height)`` that images are fitted into before augmentation.
            cache_mb: Images are kept up to this many MiB, per process. The longest unused go first.

        Raises:
            UserError: An argument is out of range.
        """
        if length < 0:
            raise UserError(f"data.{split}_images={length} is negative. Give a number of images.")
        if look not in (*LOOKS, "mixed"):
            raise UserError(f"data.look={look} is not known. Use one of gband, fluorescence, mixed.")
        if len(size) != 2 or min(size) < 64:
            raise UserError(f"data.size={list(size)} is too small. Give [width, height] of at least 64 pixels.")
        if not 0 <= overlap <= 1:
            raise UserError(f"data.overlap={overlap} is out of range. Give a part of the chromosomes, 0 to 1.")
        if width is not None and not 4 <= width <= min(size) / 4:
            raise UserError(f"data.width={width} is out of range. Give 4 pixels to a quarter of the image.")
        if label_map not in ("single", None):
            raise UserError(f"data.label_map={label_map!r} is unknown. Use single, or null for 24 classes.")
        span = None if count is None else (count, count) if isinstance(count, int) else (int(count[0]), int(count[-1]))
        if span is not None and not 0 <= span[0] <= span[1]:
            raise UserError(f"data.count={count} is no number or range [lowest, highest]. Give, say, [40, 46].")
        self.length, self.image_size = length, (int(size[1]), int(size[0]))
        self.count, self.look, self.overlap, self.width = span, look, overlap, width
        self.seed, self.split, self.label_map = seed, split, label_map
        self.augmentation = augmentation
        self.resize = None if resize is None else (int(resize[0]), int(resize[1]))
        self.label_names = [SINGLE] if label_map == "single" else list(CHROMOSOME_NAMES)
        self.label_ids = {name: number for number, name in enumerate(self.label_names, start=1)}
        self._cache: OrderedDict[int, tuple[npt.NDArray[np.uint8], list[Annotation], Instances]] = OrderedDict()
        # Masks and outlines are about as large as the image itself.
        self._cached = cache_mb * 2**20 // (2 * self.image_size[0] * self.image_size[1])

    def __len__(self) -> int:
        return self.length

    def plain(self) -> SyntheticDataset:
        """The same images without augmentation, at their own size."""
        whole = copy.copy(self)
        whole.augmentation = None
        return whole

    def metaphase(self, index: int) -> Metaphase:
        """Image ``index`` with everything that is known about it, made anew."""
        key = (_SPLITS.index(self.split), index)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        look = LOOKS[int(rng.integers(2))] if self.look == "mixed" else self.look
        return metaphase(self.image_size, rng, look, self.count, self.overlap, self.width)

    def name(self, index: int) -> str:
        """``"test/synthetic_00001.png"``, counted from 1."""
        return f"{self.split}/synthetic_{index + 1:05d}.png"

    def annotations(self, scene: Metaphase) -> list[Annotation]:
        """The chromosomes of a metaphase as outlines, which augmentation can turn and scale without loss."""
        named = zip(self._labels(scene), scene.shapes, strict=True)
        return [Annotation(label, polygons=(shape.outline(),)) for label, shape in named]

    def instances(self, scene: Metaphase) -> Instances:
        """The chromosomes of a metaphase as exact masks: the pixels that they cover by at least half."""
        patches, labels = [], []
        for label, where in zip(self._labels(scene), scene.footprints, strict=True):
            patch = tight_patch(where.mask, where.x0, where.y0)
            if patch is not None:
                patches.append(patch)
                labels.append(self.label_ids[label])
        return instances_from_patches(patches, labels, self.image_size)

    def _labels(self, scene: Metaphase) -> list[str]:
        return [SINGLE] * len(scene.names) if self.label_map == "single" else scene.names

    def _made(self, index: int) -> tuple[npt.NDArray[np.uint8], list[Annotation], Instances]:
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        scene = self.metaphase(index)
        made = scene.image, self.annotations(scene), self.instances(scene)
        self._cache[index] = made
        while len(self._cache) > self._cached:
            self._cache.popitem(last=False)
        return made

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """One sample.

        Raises:
            IndexError: There is no such image.
        """
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        if not 0 <= index < self.length:
            raise IndexError(index)
        pixels, annotations, instances = self._made(index)
        if self.augmentation is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            pixels, instances = training_view(pixels, annotations, self.augmentation, self.resize, self.label_ids, rng)
        return Sample(torch.from_numpy(pixels.copy()), self.name(index), index + 1, instances)

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process is sent: everything but the images made so far."""
        return {**self.__dict__, "_cache": OrderedDict()}
