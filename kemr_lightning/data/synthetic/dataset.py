"""Synthetic metaphases as data sets of `Sample`s, made on demand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import from_numpy
from torch.utils.data import Dataset

from kemr_lightning.data.annotation import Annotation, instances_from_patches, tight_patch
from kemr_lightning.data.synthetic.karyotype import CHROMOSOME_NAMES
from kemr_lightning.data.synthetic.scene import LOOKS, Metaphase, metaphase
from kemr_lightning.errors import UserError
from kemr_lightning.instances import Instances, Sample

Split = Literal["train", "val", "test"]
_SPLITS: tuple[Split, ...] = ("train", "val", "test")

#: Class name of every chromosome where classes are not told apart.
CHROMOSOME = "chromosome"


class SyntheticDataset(Dataset[Sample]):
    """A seeded set of metaphases. Image ``k`` of a seed and split is always the same, whatever is asked for before it.

    Args:
        length: Number of images.
        size: ``(width, height)`` in pixels.
        count: Chromosomes in an image, a number or a range ``(lowest, highest)``; None for a whole cell of 46, or fewer
            where the image is too small for one.
        look: ``"gband"`` (dark on bright), ``"fluorescence"`` (bright on dark) or ``"mixed"`` (either, by chance).
        overlap: Part of the chromosomes that are laid across others or against them, in [0, 1].
        width: Typical width of a chromosome in pixels; None to let it follow the image's size.
        seed: Images of different seeds have nothing in common.
        split: Splits of one seed have nothing in common either.
        classes: ``"one"`` class or the ``"karyotype"``'s 24.

    Raises:
        UserError: An argument is out of range.
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
        classes: Literal["one", "karyotype"] = "one",
    ) -> None:
        if look not in (*LOOKS, "mixed"):
            raise UserError(f"data.look={look} is not known. Use one of gband, fluorescence, mixed.")
        if len(size) != 2 or min(size) < 64:
            raise UserError(f"data.size={list(size)} is too small. Give [width, height] of at least 64 pixels.")
        if not 0 <= overlap <= 1:
            raise UserError(f"data.overlap={overlap} is out of range. Give a part of the chromosomes, 0 to 1.")
        span = None if count is None else (count, count) if isinstance(count, int) else (int(count[0]), int(count[-1]))
        if span is not None and not 0 <= span[0] <= span[1]:
            raise UserError(f"data.count={count} is not a number or a range [lowest, highest]. Give e.g. [40, 46].")
        self.length, self.image_size = length, (int(size[1]), int(size[0]))
        self.count, self.look, self.overlap, self.width = span, look, overlap, width
        self.seed, self.split, self.classes = seed, split, classes
        self.label_names = list(CHROMOSOME_NAMES) if classes == "karyotype" else [CHROMOSOME]

    def __len__(self) -> int:
        return self.length

    def metaphase(self, index: int) -> Metaphase:
        """Image ``index`` with everything that is known about it.

        Raises:
            IndexError: There is no such image.
        """
        if not 0 <= index < self.length:
            raise IndexError(f"image {index} of {self.length}")
        key = (_SPLITS.index(self.split), index)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        look = LOOKS[int(rng.integers(2))] if self.look == "mixed" else self.look
        return metaphase(self.image_size, rng, look, self.count, self.overlap, self.width)

    def name(self, index: int) -> str:
        """``"test/synthetic_00001.png"``, counted from 1."""
        return f"{self.split}/synthetic_{index + 1:05d}.png"

    def annotations(self, scene: Metaphase) -> list[Annotation]:
        """The chromosomes of a metaphase as outlines, which augmentation can turn and scale without loss."""
        labels = scene.names if self.classes == "karyotype" else [CHROMOSOME] * len(scene.names)
        return [
            Annotation(label, polygons=(shape.outline(),)) for label, shape in zip(labels, scene.shapes, strict=True)
        ]

    def instances(self, scene: Metaphase) -> Instances:
        """The chromosomes of a metaphase as exact masks: the pixels they cover by at least half."""
        patches, labels = [], []
        for name, where in zip(scene.names, scene.footprints, strict=True):
            patch = tight_patch(where.mask, where.x0, where.y0)
            if patch is not None:
                patches.append(patch)
                labels.append(CHROMOSOME_NAMES.index(name) + 1 if self.classes == "karyotype" else 1)
        return instances_from_patches(patches, labels, self.image_size)

    def __getitem__(self, index: int) -> Sample:
        scene = self.metaphase(index)
        return Sample(from_numpy(scene.image), self.name(index), index + 1, self.instances(scene))
