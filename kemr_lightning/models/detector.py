"""Two-stage detectors: backbone, region proposals, region heads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from kemr_lightning.core.instances import Detections, Instances
from kemr_lightning.models.cascade import CascadeHeads
from kemr_lightning.models.proposals import Proposals
from kemr_lightning.models.transform import BatchTransform
from kemr_lightning.models.views import VIEWS, detect_in_views


class TwoStageDetector(nn.Module):
    """Boxes and masks from proposals: Mask R-CNN and Cascade Mask R-CNN. A `kemr_lightning.core.contracts.Detector`.

    Args:
        backbone: Images to feature maps.
        rpn: The region proposal network.
        heads: The region heads.
        transform: Makes batches of images.
    """

    max_views = len(VIEWS)

    def __init__(self, backbone: nn.Module, rpn: Proposals, heads: CascadeHeads, transform: BatchTransform) -> None:
        super().__init__()
        self.backbone = backbone
        self.rpn = rpn
        self.heads = heads
        self.transform = transform

    @property
    def kind(self) -> str:
        """``"mask_rcnn"`` with one box stage, ``"cascade"`` with several."""
        return "mask_rcnn" if len(self.heads.stages) == 1 else "cascade"

    @property
    def max_detections(self) -> int:
        """Maximum number of detections per image."""
        return self.heads.suppression.detections

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Losses in training mode, detections in evaluation mode.

        Args:
            images: ``(1, H_i, W_i)`` float in [0, 1].
            targets: Annotations per image, needed in training mode.

        Returns:
            A dict of scalar losses, or `Detections` per image in the coordinates of the images given.

        Raises:
            ValueError: Training mode without targets.
        """
        if self.training and targets is None:
            raise ValueError("a detector in training mode needs targets")
        batch = self.transform(images)
        features: OrderedDict[str, Tensor] = self.backbone(batch.tensors)
        if not self.training:
            return self.detect(features, batch)
        assert targets is not None
        wanted = [{"boxes": _solid(target.boxes), "instances": target} for target in targets]
        proposals, losses = self.rpn(batch, _levels(features), wanted)
        losses = {
            "loss_rpn_objectness": losses["loss_objectness"],
            "loss_rpn_box": losses["loss_rpn_box_reg"],
        }
        head_losses: dict[str, Tensor] = self.heads(features, proposals, batch.image_sizes, targets)
        return losses | head_losses

    def detect(self, features: OrderedDict[str, Tensor], batch: ImageList) -> list[Detections]:
        """Detect in images whose feature maps are already computed.

        Args:
            features: The backbone's maps of the batch.
            batch: The batch, as the transform made it.

        Returns:
            One `Detections` per image.
        """
        proposals, _ = self.rpn(batch, _levels(features), None)
        found: list[Detections] = self.heads(features, proposals, batch.image_sizes)
        return found

    def detect_in_views(self, image: Tensor, views: int) -> Detections:
        """See `kemr_lightning.models.views.detect_in_views`."""
        return detect_in_views(self, image, views)


def _solid(boxes: Tensor) -> Tensor:
    """Boxes that have an area. The RPN gives each annotation its best anchors; for one without area all are equal."""
    return boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)]


def _levels(features: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """The pyramid's levels, without the fine map for outlines."""
    return OrderedDict((name, feature) for name, feature in features.items() if name != "fine")
