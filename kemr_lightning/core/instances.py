"""The currency of the package: instances as boxes, scores, labels and mask patches.

From the model's head to the writers an instance is a box, a score, a label and a mask patch on its own pixels.
Dense ``N x H x W`` stacks are never built on the way (60 masks of a 1280x1024 image are 79 MB as bytes and 315 MB
as floats); only `Instances.masks` makes one, for a user who asks for it.

Coordinates: pixel ``(row i, column j)`` covers the square ``[j, j + 1) x [i, i + 1)``, so its centre is at
``(j + 0.5, i + 0.5)`` and a tight box of a mask has ``x1 = max column + 1``. Boxes are ``(x0, y0, x1, y1)``.
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
        values: ``(h, w)`` tensor: float probabilities in [0, 1], or bool. The window lies inside its image; everything
            outside the window is 0.
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
        """``(h, w)`` bool: the values themselves if they are bool, else ``values >= threshold``."""
        return self.values if self.values.dtype == torch.bool else self.values >= threshold

    def area(self, threshold: float = 0.5) -> int:
        """Number of pixels in the mask."""
        return int(self.binary(threshold).sum())

    def to(self, device: torch.device | str) -> Patch:
        """The same patch on another device."""
        return replace(self, values=self.values.to(device))


@dataclass
class Instances:
    """The instances of one image, predicted or annotated.

    Attributes:
        image_size: ``(H, W)`` of the image the coordinates refer to.
        boxes: ``(N, 4)`` float32, ``(x0, y0, x1, y1)`` in pixels. The detector's boxes for predictions, tight mask
            boxes for annotations.
        scores: ``(N,)`` float32 in [0, 1]; ones for annotations.
        labels: ``(N,)`` int64, from 1 (0 is background).
        patches: One per instance, or None where only boxes are known (box-only data sets).
        disagreement: ``(N,)`` float32 in [0, 0.5] or None: mean standard deviation between the mask heads'
            probabilities over the patch. Only models with several mask heads have it.
    """

    image_size: tuple[int, int]
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    patches: list[Patch] | None = field(default_factory=list)
    disagreement: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.boxes)
        lengths = [len(self.scores), len(self.labels)]
        lengths += [] if self.patches is None else [len(self.patches)]
        lengths += [] if self.disagreement is None else [len(self.disagreement)]
        if any(length != count for length in lengths):
            raise ValueError(f"instances disagree on their number: {count} boxes, others {lengths}")

    @classmethod
    def empty(cls, image_size: tuple[int, int]) -> Instances:
        """No instance on an image of ``(H, W)``."""
        return cls(image_size, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), [])

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Instances]:
        return (self[[index]] for index in range(len(self)))

    def positions(self, index: Tensor | Sequence[int] | slice) -> Tensor:
        """The positions ``(K,)`` int64, on the CPU, that an index as of ``instances[index]`` stands for."""
        if not isinstance(index, slice):
            index = torch.as_tensor(index, device="cpu")
            # An empty list becomes a tensor of floats, which selects nothing only after it is made one of positions.
            index = index.to(torch.int64) if index.numel() == 0 and index.is_floating_point() else index
        return torch.arange(len(self))[index]

    def __getitem__(self, index: Tensor | Sequence[int] | slice) -> Instances:
        """Select instances by a boolean mask, an integer tensor, a list of positions or a slice."""
        where = self.positions(index)
        on = self.boxes.device
        return Instances(
            self.image_size,
            self.boxes[where.to(on)],
            self.scores[where.to(on)],
            self.labels[where.to(on)],
            None if self.patches is None else [self.patches[i] for i in where.tolist()],
            None if self.disagreement is None else self.disagreement[where.to(on)],
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
        )

    def masks(self, threshold: float = 0.5) -> Tensor:
        """All masks at the image's size, for a user; nothing in the package calls it.

        Returns:
            ``(N, H, W)`` bool.

        Raises:
            ValueError: There are boxes only.
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
    """What a detector's heads give for one image, in the coordinates of the image it was shown.

    Attributes:
        boxes: ``(N, 4)`` float32.
        scores: ``(N,)`` float32 in [0, 1].
        labels: ``(N,)`` int64, from 1.
        grids: ``(N, M, M)`` float32: mask probabilities on an ``M x M`` grid that covers ``regions`` exactly, grid cell
            ``(r, c)`` covering the ``1/M`` part of the region's height and width.
        regions: ``(N, 4)`` float32: the (possibly grown) boxes that ``grids`` cover.
        disagreement: As in `Instances`.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    grids: Tensor
    regions: Tensor
    disagreement: Tensor | None = None

    def select(self, index: Tensor) -> Detections:
        """Those at the given positions, or where a mask is true."""
        spread = None if self.disagreement is None else self.disagreement[index]
        return Detections(
            self.boxes[index], self.scores[index], self.labels[index], self.grids[index], self.regions[index], spread
        )


@dataclass
class Sample:
    """One image as every part of the package sees it.

    Attributes:
        image: ``(H, W)`` uint8 intensity at the input file's size (colour as luma, 16 bit scaled by the file's own
            percentile window).
        name: The file's path relative to its data root, for messages and outputs (``"test/original_1.jpg"``).
        image_id: Position in the data set's sorted list, from 1; the id in every COCO file written.
        instances: The annotations at the same size, patches bool; None if the image has none.
        path: Where the image (or the JSON that embeds it) is, or None for synthetic ones.
    """

    image: Tensor
    name: str
    image_id: int
    instances: Instances | None = None
    path: str | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        """``(H, W)``."""
        height, width = self.image.shape
        return int(height), int(width)

    def to(self, device: torch.device | str) -> Sample:
        """The same sample on another device."""
        there = None if self.instances is None else self.instances.to(device)
        return replace(self, image=self.image.to(device), instances=there)
