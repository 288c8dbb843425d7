"""Images with annotations as a list of `Sample`s: read once, kept in memory, rasterised when asked for."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
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
from kemr_lightning.data.warp import resize_pixels

log = logging.getLogger(__name__)

SINGLE = "chromosome"
"""Name of the only class when all are merged."""

LabelMap = str | Mapping[str, str | None] | None
"""``"single"``: all classes become `SINGLE`. None: they stay as they are. A mapping: new names, None drops a class."""


@dataclass(frozen=True)
class Record:
    """One image of a data set before it is decoded.

    Attributes:
        name: Path relative to the data root.
        path: The image, or the JSON that embeds it.
        load: Decodes the image.
        annotations: None where the image has none (prediction).
        group: What must stay together in a split, or None: then its name tells.
        stated_size: ``(H, W)`` that the annotations are for, as their file says, or None.
    """

    name: str
    path: Path
    load: Callable[[], IntensityImage]
    annotations: tuple[Annotation, ...] | None = None
    group: str | None = None
    stated_size: tuple[int, int] | None = None


def map_labels(records: Sequence[Record], label_map: LabelMap) -> list[Record]:
    """Rename the classes of all annotations.

    Raises:
        UserError: The map is of no known form, or a class is missing in it.
    """
    if label_map is None:
        return list(records)
    if isinstance(label_map, str) and label_map != "single":
        raise UserError(f"data.label_map={label_map!r} is unknown. Use single, null or a mapping of names.")
    renamed = []
    for record in records:
        kept = []
        for annotation in record.annotations or ():
            if isinstance(label_map, str):
                name: str | None = SINGLE
            elif annotation.label in label_map:
                name = label_map[annotation.label]
            else:
                raise UserError(
                    f"{record.name}: label {annotation.label!r} is not in data.label_map. Add it (null drops a label)."
                )
            if name is not None:
                kept.append(replace(annotation, label=name))
        renamed.append(replace(record, annotations=None if record.annotations is None else tuple(kept)))
    return renamed


def label_order(name: str) -> tuple[int, int, str]:
    """Key to sort class names by: numbers by size, then the others by the alphabet (1, 2, ... 22, X, Y)."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def names_of(records: Sequence[Record]) -> list[str]:
    """The class names that occur, sorted by `label_order`."""
    names = {annotation.label for record in records for annotation in record.annotations or ()}
    return sorted(names, key=label_order)


_THREADS = 4
"""Images decoded at once when a data set is checked."""


def _try_load(record: Record) -> npt.NDArray[np.uint8] | str:
    """A record's pixels, or what is wrong with its image."""
    try:
        return record.load().pixels
    except UserError as error:
        return str(error)


class SampleDataset(Dataset[Sample]):
    """Samples of a list of records.

    With an augmentation, an item is asked for as ``(index, epoch)`` and is the same for the same seed, epoch and index,
    whichever worker makes it; a bare index stands for epoch 0.
    """

    def __init__(
        self,
        records: Sequence[Record],
        label_names: Sequence[str],
        augmentation: Augmentation | None = None,
        resize: Sequence[int] | None = None,
        seed: int = 0,
        cache_mb: int = 512,
    ) -> None:
        """Take the parts; nothing is decoded yet.

        Args:
            records: In the order of their ``image_id``.
            label_names: Name of label 1, 2, …; annotations of other classes are left out.
            augmentation: For training; None gives images as they are.
            resize: ``(width, height)`` that training images are fitted into before augmentation. Without augmentation
                images keep their size: the model resizes, so that masks come out at the file's.
            seed: Seed of the augmentation.
            cache_mb: Decoded images are kept up to this many MiB, the least recently used going first. Each worker
                process has its own.
        """
        self.records = list(records)
        self.label_names = list(label_names)
        self.label_ids = {name: number for number, name in enumerate(label_names, start=1)}
        self.augmentation = augmentation
        self.resize = None if resize is None or augmentation is None else (int(resize[0]), int(resize[1]))
        self.seed = seed
        self._cache: OrderedDict[int, npt.NDArray[np.uint8]] = OrderedDict()
        self._cache_left = cache_mb * 2**20
        self._reported: set[int] = set()

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
                pixels, annotations or (), self.augmentation, self.resize, self.label_ids, rng
            )
        elif annotations is not None:
            instances, positions = to_instances(annotations, self.label_ids, size)
            lost = sum(annotation.label in self.label_ids for annotation in annotations) - len(positions)
            if lost and index not in self._reported:
                self._reported.add(index)
                log.warning("%s: %d annotations cover no pixel of the image, left out", record.name, lost)
        # A copy: whoever gets the sample may change it.
        return Sample(torch.tensor(pixels), record.name, index + 1, instances, str(record.path))

    def preload(self) -> list[str]:
        """Decode every image once and keep as many as the cache holds.

        Returns:
            What is wrong with those that cannot be decoded, one message each.
        """
        faults = []
        with ThreadPoolExecutor(_THREADS) as pool:
            # A few at a time: not all decoded images may fit into memory at once.
            for start in range(0, len(self.records), 8 * _THREADS):
                indices = range(start, min(start + 8 * _THREADS, len(self.records)))
                for index, result in zip(indices, pool.map(_try_load, self.records[start : indices.stop]), strict=True):
                    if isinstance(result, str):
                        faults.append(result)
                    elif result.nbytes <= self._cache_left:
                        self._cache[index] = result
                        self._cache_left -= result.nbytes
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

    def __getstate__(self) -> dict[str, Any]:
        """What a worker process is sent: everything but the decoded images."""
        state = self.__dict__.copy()
        state["_cache_left"] = self._cache_left + sum(pixels.nbytes for pixels in self._cache.values())
        state["_cache"] = OrderedDict()
        return state


def training_view(
    pixels: npt.NDArray[np.uint8],
    annotations: Sequence[Annotation],
    augmentation: Augmentation,
    resize: Sequence[int] | None,
    label_ids: Mapping[str, int],
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.uint8], Instances]:
    """What training sees of an image: fitted into the model's frame, then augmented.

    Args:
        pixels: ``(H, W)`` uint8 at the file's size.
        annotations: In the coordinates of ``pixels``.
        augmentation: Applied at the model's scale.
        resize: ``(width, height)`` of the frame, or None.
        label_ids: Class name to label, from 1.
        rng: Where all chance comes from.
    """
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    pixels = resize_pixels(pixels, resize)
    if pixels.shape != size:
        # Width and height are rounded to whole pixels, each on its own.
        factors = (pixels.shape[1] / size[1], pixels.shape[0] / size[0])
        annotations = [scale_annotation(annotation, factors) for annotation in annotations]
    return augmentation(pixels, annotations, label_ids, rng)
