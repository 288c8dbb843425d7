"""The types that travel through the package: patches, instances, detections, samples.

From the model's heads to the writers, an instance is a box, a score, a label and a mask patch on the pixels around it.
Dense ``N x H x W`` stacks are never built on the way: 60 masks of a 1280x1024 image take 79 MB as bytes and 315 MB as
floats. Only `Instances.masks` makes one, for users who need it.

Coordinates: pixel ``(row i, column j)`` covers the square ``[j, j + 1) x [i, i + 1)``, so its centre is at
``(j + 0.5, i + 0.5)``, and the tight box of a mask has ``x1 = max column + 1``. Boxes are ``(x0, y0, x1, y1)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Patch:
    """A mask on a window of an image.

    Attributes:
        x0: Column of the window's first pixel, >= 0.
        y0: Row of the window's first pixel, >= 0.
        values: ``(h, w)`` float probabilities in [0, 1], or bool. The window lies inside its image; the mask is 0
            outside the window.
    """

    x0: int
    y0: int
    values: Tensor

    @property
    def window(self) -> tuple[int, int, int, int]:
        """``(x0, y0, x1, y1)`` in whole pixels, x1 and y1 exclusive."""
        height, width = self.values.shape
        return self.x0, self.y0, self.x0 + int(width), self.y0 + int(height)

    def binary(self, threshold: float = 0.5) -> Tensor:
        """``(h, w)`` bool: the values themselves if they are bool, otherwise ``values >= threshold``."""
        return self.values if self.values.dtype == torch.bool else self.values >= threshold

    def area(self, threshold: float = 0.5) -> int:
        """The number of pixels in the mask."""
        return int(self.binary(threshold).sum())

    def to(self, device: torch.device | str) -> Patch:
        """The same patch on another device."""
        return replace(self, values=self.values.to(device))


@dataclass
class Instances:
    """The instances of one image, predicted or annotated.

    Attributes:
        image_size: ``(H, W)`` of the image the coordinates refer to.
        boxes: ``(N, 4)`` float32, ``(x0, y0, x1, y1)`` in pixels. Predictions have the detector's boxes, annotations
            the tight boxes of their masks.
        scores: ``(N,)`` float32 in [0, 1]; ones for annotations.
        labels: ``(N,)`` int64, from 1 (0 is background).
        patches: One per instance, or None if only boxes are known (data sets with boxes only).
        disagreement: ``(N,)`` float32 in [0, 0.5], the standard deviation between the mask heads' probabilities,
            averaged over the mask grid. None for models with a single mask head and for annotations.
        outlined: ``(N,)`` bool, of training annotations: whether the patch is the instance's mask. Where it is False
            only the box is known, which the patch fills. None: all are masks.
        ignored: Of annotations: regions where predictions count neither as right nor as wrong (COCO's crowds), each
            with the label that it is about; None if there are none. They are not among the instances.
    """

    image_size: tuple[int, int]
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    patches: list[Patch] | None = field(default_factory=list)
    disagreement: Tensor | None = None
    outlined: Tensor | None = None
    ignored: Instances | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes)
        lengths = [len(self.scores), len(self.labels)]
        lengths += [] if self.patches is None else [len(self.patches)]
        lengths += [len(values) for values in (self.disagreement, self.outlined) if values is not None]
        if any(length != count for length in lengths):
            raise ValueError(f"instances disagree on their number: {count} boxes, others {lengths}")

    @classmethod
    def empty(cls, image_size: tuple[int, int]) -> Instances:
        """No instances, on an image of ``(H, W)``."""
        return cls(image_size, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), [])

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Instances]:
        return (self[[index]] for index in range(len(self)))

    def positions(self, index: Tensor | Sequence[int] | slice) -> Tensor:
        """The positions that ``instances[index]`` selects, ``(K,)`` int64 on the CPU."""
        if not isinstance(index, slice):
            index = torch.as_tensor(index, device="cpu")
            # An empty list becomes a float tensor, which cannot be an index.
            index = index.to(torch.int64) if index.numel() == 0 and index.is_floating_point() else index
        return torch.arange(len(self))[index]

    def __getitem__(self, index: Tensor | Sequence[int] | slice) -> Instances:
        """Select instances by a boolean mask, an integer tensor, a list of positions or a slice; `ignored` stays."""
        where = self.positions(index)
        on = self.boxes.device
        return Instances(
            self.image_size,
            self.boxes[where.to(on)],
            self.scores[where.to(on)],
            self.labels[where.to(on)],
            None if self.patches is None else [self.patches[i] for i in where.tolist()],
            None if self.disagreement is None else self.disagreement[where.to(on)],
            None if self.outlined is None else self.outlined[where.to(on)],
            self.ignored,
        )

    def to(self, device: torch.device | str) -> Instances:
        """The same instances on another device."""
        return Instances(
            self.image_size,
            self.boxes.to(device),
            self.scores.to(device),
            self.labels.to(device),
            None if self.patches is None else [patch.to(device) for patch in self.patches],
            None if self.disagreement is None else self.disagreement.to(device),
            None if self.outlined is None else self.outlined.to(device),
            None if self.ignored is None else self.ignored.to(device),
        )

    def masks(self, threshold: float = 0.5) -> Tensor:
        """All masks at the image's size. This is for users; nothing in the package calls it.

        Returns:
            ``(N, H, W)`` bool.

        Raises:
            ValueError: There are boxes only, no masks.
        """
        if self.patches is None:
            raise ValueError("these instances have boxes only, no masks")
        stack = torch.zeros((len(self), *self.image_size), dtype=torch.bool)
        for mask, patch in zip(stack, self.patches, strict=True):
            x0, y0, x1, y1 = patch.window
            mask[y0:y1, x0:x1] = patch.binary(threshold).cpu()
        return stack


@dataclass
class Detections:
    """A detector's output for one image, in the coordinates of the image that the detector saw.

    Attributes:
        boxes: ``(N, 4)`` float32.
        scores: ``(N,)`` float32 in [0, 1].
        labels: ``(N,)`` int64, from 1.
        grids: ``(N, M, M)`` float32, mask probabilities in the ``M x M`` equal cells that each region is divided into.
        regions: ``(N, 4)`` float32, the (possibly grown) boxes that ``grids`` cover.
        disagreement: See `Instances`.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    grids: Tensor
    regions: Tensor
    disagreement: Tensor | None = None

    def select(self, index: Tensor) -> Detections:
        """The detections at the given positions, or where a mask is true."""
        spread = None if self.disagreement is None else self.disagreement[index]
        return Detections(
            self.boxes[index], self.scores[index], self.labels[index], self.grids[index], self.regions[index], spread
        )


@dataclass
class Sample:
    """One image as every part of the package sees it.

    Attributes:
        image: ``(H, W)`` uint8 intensity at the input file's size. Colour becomes luma; 16 bit are scaled by the file's
            own percentile window.
        name: The file's path relative to its data root, for messages and outputs (``"test/original_1.jpg"``).
        image_id: Position in the data set's sorted list, from 1; the image's id in every COCO file written.
        instances: The annotations at the same size, with bool patches; None if the image is not annotated.
        path: The image file, or the JSON that embeds it; None for a synthetic image.
    """

    image: Tensor
    name: str
    image_id: int
    instances: Instances | None = None
    path: str | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """The image's ``(H, W)``."""
        height, width = self.image.shape
        return int(height), int(width)

    def to(self, device: torch.device | str) -> Sample:
        """The same sample on another device."""
        there = None if self.instances is None else self.instances.to(device)
        return replace(self, image=self.image.to(device), instances=there)
