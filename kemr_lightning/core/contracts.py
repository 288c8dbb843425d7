"""What rooms may expect of each other: the detector, the refiner, and a prediction as it travels between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from kemr_lightning.core.instances import Detections, Instances, Sample


@runtime_checkable
class Detector(Protocol):
    """A network that finds instances. Every model of the package is one, and an `torch.nn.Module` besides.

    Called with images ``(1, H, W)`` float32 in [0, 1] and, in training mode, their annotations, it returns its losses
    by name (``loss_...``, scalars); in evaluation mode one `Detections` per image.
    """

    kind: str
    """Which system it is, as tables name it: ``"mask_rcnn"``, ``"cascade"``, ``"blendmask"``, ..."""

    max_detections: int
    """Most detections that it gives for an image."""

    max_views: int
    """Most turned and mirrored views of an image that `detect_in_views` can average; 1: the image as it is."""

    def __call__(self, images: list[Tensor], targets: list[Instances] | None = None) -> Any:
        """Losses in training mode, a list of `Detections` in evaluation mode."""

    def detect_in_views(self, image: Tensor, views: int) -> Detections:
        """The average of several views of one image ``(1, H, W)``; called with 2 to ``max_views`` only."""


class MaskRefiner(Protocol):
    """Refines the masks of one image."""

    def __call__(self, image: Tensor, instances: Instances) -> Instances:
        """The same boxes, scores and labels with new masks.

        Args:
            image: ``(H, W)`` uint8.
            instances: Those of the image, patches of float probabilities.
        """


class Samples(Protocol):
    """A part of a data set: a list of samples that are read when asked for."""

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: int) -> Sample:
        """The sample at a position from 0."""


@dataclass(frozen=True)
class Prediction:
    """What was found in one image, before and after refinement.

    Attributes:
        initial: The detector's instances, by falling score.
        refined: The same with refined masks, or None without a refiner.
        cut: ``(N,)`` bool: which are probably cut by the border of a tile; None where nothing was tiled.
    """

    initial: Instances
    refined: Instances | None
    cut: Tensor | None = None

    @property
    def final(self) -> Instances:
        """The refined instances, or the initial ones without a refiner."""
        return self.initial if self.refined is None else self.refined

    def layers(self) -> Iterator[tuple[str, Instances]]:
        """``"initial"`` and, with a refiner, ``"refined"``, each with its instances."""
        yield "initial", self.initial
        if self.refined is not None:
            yield "refined", self.refined
