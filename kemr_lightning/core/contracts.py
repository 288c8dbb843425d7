"""What the parts of the package may expect of each other: protocols, and a prediction as it travels between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Detections, Instances, Sample


@runtime_checkable
class Detector(Protocol):
    """A network that finds instances. Every model of the package is one; it is a `torch.nn.Module` as well.

    It is called with images ``(1, H, W)`` float32 in [0, 1] and, in training mode, their annotations. In training mode
    it returns its losses, scalars by name (``loss_...``); in evaluation mode one `Detections` per image.
    """

    @property
    def kind(self) -> str:
        """The kind of model, as tables name it: ``"mask_rcnn"``, ``"cascade"``, ``"blendmask"``, ..."""

    @property
    def max_detections(self) -> int:
        """Maximum number of detections per image."""

    @property
    def max_views(self) -> int:
        """Maximum number of rotated and mirrored views of an image that `detect_in_views` averages; 1 if it cannot."""

    def __call__(self, images: list[Tensor], targets: list[Instances] | None = None) -> Any:
        """Losses in training mode, a list of `Detections` in evaluation mode."""

    def detect_in_views(self, image: Tensor, views: int) -> Detections:
        """Detect with the average of several views of an image.

        Args:
            image: ``(1, H, W)`` float32 in [0, 1].
            views: 2 to ``max_views``.

        Returns:
            Detections in the coordinates of the image as it is, in descending order of score.
        """


REQUIRED = ("kind", "max_detections", "max_views", "detect_in_views")
"""Attributes required in addition to those of `torch.nn.Module`."""


def as_detector(model: object) -> Detector:
    """The model itself, checked to be a detector.

    Raises:
        UserError: It lacks an attribute of the protocol.
    """
    lacking = [name for name in REQUIRED if not hasattr(model, name)]
    if lacking or not callable(model):
        raise UserError(
            f"{type(model).__name__} cannot be used as a detector: it lacks {', '.join(lacking) or '__call__'}. "
            "Add what kemr_lightning.core.contracts.Detector describes"
        )
    return cast(Detector, model)


class DetectionStore(Protocol):
    """Keeps the detections of one model, so that they are computed once."""

    @property
    def reused(self) -> int:
        """Cache hits since the last `tell`."""

    def get(self, sample: Sample) -> Detections | None:
        """The detections of an image, on its device, in the coordinates of the image that the detector saw; or None."""

    def put(self, sample: Sample, detections: Detections) -> None:
        """Keep the detections of an image."""

    def tell(self) -> None:
        """Log how many images were found in the store and how many were added since the last call."""


class MaskRefiner(Protocol):
    """Refines the masks of one image."""

    def __call__(self, image: Tensor, instances: Instances) -> Instances:
        """Refine masks; boxes, scores and labels stay.

        Args:
            image: ``(H, W)`` uint8.
            instances: The image's instances, with patches of float probabilities.
        """


class Samples(Protocol):
    """A part of a data set: a sequence of samples, each read when it is asked for."""

    def __len__(self) -> int:
        """The number of images."""

    def __getitem__(self, index: int) -> Sample:
        """The sample at a position from 0."""


@dataclass(frozen=True)
class Prediction:
    """The instances found in one image, before and after refinement.

    Attributes:
        initial: The detector's instances, in descending order of score.
        refined: The same instances with refined masks, or None without a refiner.
        cut: ``(N,)`` bool, which instances are probably cut by the border of a tile; None if the image was not tiled.
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
