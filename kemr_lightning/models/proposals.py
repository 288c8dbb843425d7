"""Torchvision's region proposals, trained on annotations with ignored regions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork

from kemr_lightning.core.instances import Instances
from kemr_lightning.models.ignored import on_ignored


class Proposals(RegionProposalNetwork):  # type: ignore[misc]
    """Torchvision's network; anchors on ignored regions are no background, and no loss is computed on them.

    Each target is a dict with ``boxes``, as torchvision wants it, and the annotations themselves as ``instances``.
    """

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: Sequence[dict[str, Tensor | Instances]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Torchvision's labels of the anchors: 1, 0 for background, -1 for those that are left out; and their boxes."""
        labels: list[Tensor]
        boxes: list[Tensor]
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            instances = target["instances"]
            assert isinstance(instances, Instances)
            if instances.ignored is not None:
                label[(label == 0) & on_ignored(instances, anchor)] = -1.0
        return labels, boxes
