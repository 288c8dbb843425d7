"""From images of any size to one standardised, padded batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList


@dataclass(frozen=True)
class BatchTransform:
    """Standardises images and pads them on the right and at the bottom to a common size, with their border's median.

    Attributes:
        mean: Subtracted from the intensity, in [0, 1].
        std: The intensity is divided by it.
        divisor: The padded height and width are multiples of it.
    """

    mean: float = 0.5
    std: float = 0.25
    divisor: int = 32

    def __call__(self, images: Sequence[Tensor]) -> ImageList:
        """Make a batch.

        Args:
            images: ``(1, H_i, W_i)`` float in [0, 1].

        Returns:
            Torchvision's image list: tensors ``(B, 1, H, W)`` and the sizes before padding.
        """
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        height = -(-max(size[0] for size in sizes) // self.divisor) * self.divisor
        width = -(-max(size[1] for size in sizes) // self.divisor) * self.divisor
        padded = []
        for image, (rows, columns) in zip(images, sizes, strict=True):
            standard = (image - self.mean) / self.std
            if (rows, columns) != (height, width):
                border = torch.cat([standard[0, 0], standard[0, -1], standard[0, :, 0], standard[0, :, -1]])
                full = border.median().expand(1, height, width).clone()
                full[:, :rows, :columns] = standard
                standard = full
            padded.append(standard)
        return ImageList(torch.stack(padded), sizes)
