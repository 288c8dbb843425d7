"""Annotated images as a data set of `Sample`s: decoded images are kept in memory, masks are drawn on demand."""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.data.annotation import Annotation, scale_annotation, to_instances
from kemr_lightning.data.augment import Augmentation
from kemr_lightning.data.image import IntensityImage
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.data.record import Record
from kemr_lightning.data.warp import resize_pixels

log = logging.getLogger(__name__)

_THREADS = 4
"""Images decoded at once when a data set is checked."""


def _try_load(record: Record) -> IntensityImage | str:
    """A record's image, or what is wrong with it."""
    try:
        return record.load()
    except UserError as error:
        return str(error)


class SampleDataset(Dataset[Sample]):
    """Samples of a list of records.

    With augmentation, items are indexed by ``(index, epoch)``; a bare index stands for epoch 0. An item depends on
    seed, epoch and index alone, not on the worker that makes it.
    """

    def __init__(
        self,
        records: Sequence[Record],
        label_names: Sequence[str],
        augmentation: Augmentation | None = None,
        scale: InputScale | None = None,
        seed: int = 0,
        cache_mb: int = 512,
    ) -> None:
        """Keep the records; nothing is decoded yet.

        Args:
            records: Image number ``n`` gets the ``image_id`` ``n + 1``.
            label_names: Names of labels 1, 2, …; annotations of other classes are left out.
            augmentation: For training; None gives images as they are.
            scale: How training images are scaled before augmentation. Without augmentation, images keep their size: the
                model scales them, so that masks come out at the file's size.
            seed: Seed of the augmentation.
            cache_mb: Decoded images are kept up to this many MiB; the least recently used are dropped first. Each
                worker process has a cache of its own.
        """
        self.records = list(records)
        self.label_names = list(label_names)
        self.label_ids = {name: number for number, name in enumerate(label_names, start=1)}
        self.augmentation = augmentation
        self.scale = scale or InputScale()
        self.seed = seed
        self.channels: Counter[str] = Counter()
        """Number of images by the channel that they were read from, of those with a choice; known after `preload`."""
        self._cache: OrderedDict[int, npt.NDArray[np.uint8]] = OrderedDict()
        self._cache_left = cache_mb * 2**20
        self._reported: set[int] = set()
        self._factors: dict[int, float] = {}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """One sample.

        Raises:
            UserError: The image cannot be decoded.
        """
        index, epoch = key if isinstance(key, tuple) else (key, 0)
        if not 0 <= index < len(self.records):
            raise IndexError(index)
        record = self.records[index]
        pixels = self._pixels(index)
        size = (int(pixels.shape[0]), int(pixels.shape[1]))
        annotations = record.annotations
        instances = None
        if self.augmentation is not None:
            rng = np.random.default_rng([self.seed, epoch, index])
            pixels, instances = training_view(
                pixels, annotations or (), self.augmentation, self._size(index, pixels), self.label_ids, rng
            )
        elif annotations is not None:
            instances, positions = to_instances(annotations, self.label_ids, size)
            lost = sum(a.label in self.label_ids and not a.crowd for a in annotations) - len(positions)
            if lost and index not in self._reported:
                self._reported.add(index)
                log.warning("%s: %d annotations cover no pixel of the image, left out", record.name, lost)
        # A copy: the caller may change it.
        return Sample(torch.tensor(pixels), record.name, index + 1, instances, str(record.path))

    def plain(self) -> SampleDataset:
        """The same images whole and without augmentation, at their files' sizes."""
        return SampleDataset(self.records, self.label_names)

    def preload(self) -> list[str]:
        """Decode every image once, and keep as many as the cache holds.

        Returns:
            What is wrong with those that cannot be decoded, one message each.
        """
        faults = []
        with ThreadPoolExecutor(_THREADS) as pool:
            # A few at a time: all decoded images together may not fit into memory.
            for start in range(0, len(self.records), 8 * _THREADS):
                indices = range(start, min(start + 8 * _THREADS, len(self.records)))
                for index, result in zip(indices, pool.map(_try_load, self.records[start : indices.stop]), strict=True):
                    if isinstance(result, str):
                        faults.append(result)
                        continue
                    if result.channel is not None:
                        self.channels[result.channel] += 1
                    if result.pixels.nbytes <= self._cache_left:
                        self._cache[index] = result.pixels
                        self._cache_left -= result.pixels.nbytes
        return faults

    def _pixels(self, index: int) -> npt.NDArray[np.uint8]:
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        pixels = self.records[index].load().pixels
        self._cache[index] = pixels
        self._cache_left -= pixels.nbytes
        while self._cache_left < 0 and self._cache:
            self._cache_left += self._cache.popitem(last=False)[1].nbytes
        return pixels

    def _size(self, index: int, pixels: npt.NDArray[np.uint8]) -> tuple[int, int]:
        """``(H, W)`` at which the model sees an image."""
        if index not in self._factors:
            self._factors[index] = self.scale.factor(pixels)
        return self.scale.size((int(pixels.shape[0]), int(pixels.shape[1])), self._factors[index])

    def __getstate__(self) -> dict[str, Any]:
        """What is sent to a worker process: everything but the decoded images."""
        state = self.__dict__.copy()
        state["_cache_left"] = self._cache_left + sum(pixels.nbytes for pixels in self._cache.values())
        state["_cache"] = OrderedDict()
        return state


def training_view(
    pixels: npt.NDArray[np.uint8],
    annotations: Sequence[Annotation],
    augmentation: Augmentation,
    size: tuple[int, int],
    label_ids: Mapping[str, int],
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], Instances]:
    """Scale an image to the size at which the model sees it, then augment it.

    Args:
        pixels: ``(H, W)`` uint8 at the file's size.
        annotations: In the coordinates of ``pixels``.
        augmentation: Applied at the model's scale.
        size: ``(H, W)`` at which the model sees the image.
        label_ids: Class name to label, from 1.
        rng: The only source of randomness.

    Returns:
        Pixels ``(h, w)`` uint8 and their instances.
    """
    if pixels.shape != size:
        # Width and height are rounded to whole pixels, each on its own.
        factors = (size[1] / pixels.shape[1], size[0] / pixels.shape[0])
        pixels = resize_pixels(pixels, size)
        annotations = [scale_annotation(annotation, factors) for annotation in annotations]
    return augmentation(pixels, annotations, label_ids, rng)
