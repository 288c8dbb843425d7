"""The interface of metrics: what callbacks and tasks expect, of the package's own metric and of any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from kemr_lightning.core.instances import Instances
from kemr_lightning.metrics.records import ImageRecord


class InstanceMetric(Protocol):
    """Scores instances against annotations, over a data set that several processes may share.

    `InstanceSegmentationMetric` is one. To add figures, derive from it and return more of them from ``compute``::

        class WithStrictAP(InstanceSegmentationMetric):
            def compute(self) -> dict[str, Tensor]:
                strict = average_precision(self.records(), masks=True).at(0.9)
                return super().compute() | {"AP90": torch.tensor(strict, dtype=torch.float64)}

    The configuration names the class as ``_target_`` of a file in ``conf/metric``. Every figure is logged as
    ``val/initial/NAME``, ``val/refined/NAME``, ``val/gain/NAME`` and ``val/NAME`` (and likewise for ``test/``), can be
    monitored, and is written to ``metrics.json``.

    A metric must survive `copy.deepcopy`: initial and refined instances are scored by two copies.
    """

    ia_score: float
    """Predictions below this score do not count for Instance Accuracy, in counts and in pictures; in [0, 1]."""

    ia_iou: float
    """Minimum IoU of a prediction with its annotation, in (0, 1]."""

    threshold: float
    """A predicted mask is ``probability >= threshold``, in (0, 1]."""

    max_detections: int
    """Of each image and class so many detections count for AP."""

    def to(self, device: torch.device) -> Any:
        """Move the state to a device."""

    def update(
        self,
        predictions: Sequence[Instances],
        targets: Sequence[Instances],
        image_ids: Sequence[int],
        names: Sequence[str] | None = None,
    ) -> None:
        """Add the images of a batch.

        Args:
            predictions: The instances found in each image, at the size of its file.
            targets: The annotations of each image, at the same size.
            image_ids: Ids, unique in the data set. An image that is added twice counts once.
            names: The images' file names.
        """

    def compute(self) -> Mapping[str, Tensor]:
        """Figures by name: scalars, higher is better, NaN where one does not exist. The same in every process."""

    def gathered(self) -> list[ImageRecord]:
        """The images of all processes, ordered by id. Every process must call it."""

    def reset(self) -> None:
        """Forget all images."""
