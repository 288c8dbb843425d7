"""Images with a model's masks beside the annotated ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import torch
from torch import Tensor

from kemr_lightning.core.contracts import Samples
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances
from kemr_lightning.data.split import group_of
from kemr_lightning.training.initial_predictions import initial_predictions
from kemr_lightning.training.module import SegmentationModule


@dataclass(frozen=True)
class MaskedImage:
    """One image with its predicted and annotated instances.

    Attributes:
        image: ``(H, W)`` uint8.
        initial: The detector's instances.
        truth: The annotations.
        group: Number of the slide or case; images of one group are never split between learning and testing.
    """

    image: Tensor
    initial: Instances
    truth: Instances
    group: int


def gather_masked_images(
    module: SegmentationModule,
    samples: Samples,
    device: torch.device,
    group_pattern: str,
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> list[MaskedImage]:
    """Predict the initial masks of annotated images.

    Args:
        module: The trained model.
        samples: The images; each must have annotated masks.
        device: Where the detector runs.
        group_pattern: Regular expression that finds an image's group in its name, see
            `kemr_lightning.data.split.group_of`.
        progress: Wraps the positions of the images, to show how far it is.

    Returns:
        One case per image, in order, on the CPU.

    Raises:
        UserError: An image has no annotated masks.
    """
    cases = []
    for sample, initial in initial_predictions(module, samples, device, progress):
        if sample.instances is None or sample.instances.patches is None:
            raise UserError(f"{sample.name} has no masks to learn from. Annotate outlines, not boxes")
        group = group_of(PurePosixPath(sample.name).stem, group_pattern)
        number = zlib.crc32(group.encode())
        cases.append(MaskedImage(sample.image.cpu(), initial.to("cpu"), sample.instances.to("cpu"), number))
    return cases
