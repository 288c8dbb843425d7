"""Two-stage detectors: backbone, region proposals, region heads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork

from kemr_lightning.core.instances import Detections, Instances


def batch_images(images: Sequence[Tensor], divisor: int, mean: float, std: float) -> ImageList:
    """Standardise images and pad them on the right and below to one size, with the median of their border.

    Args:
        images: ``(1, H_i, W_i)`` float in [0, 1].
        divisor: The padded height and width are multiples of it.
        mean: Subtracted from the intensity.
        std: The intensity is divided by it.

    Returns:
        Torchvision's image list: tensors ``(B, 1, H, W)`` and the sizes before padding.
    """
    sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
    height = -(-max(size[0] for size in sizes) // divisor) * divisor
    width = -(-max(size[1] for size in sizes) // divisor) * divisor
    padded = []
    for image, (rows, columns) in zip(images, sizes, strict=True):
        standard = (image - mean) / std
        if (rows, columns) != (height, width):
            border = torch.cat([standard[0, 0], standard[0, -1], standard[0, :, 0], standard[0, :, -1]])
            full = border.median().expand(1, height, width).clone()
            full[:, :rows, :columns] = standard
            standard = full
        padded.append(standard)
    return ImageList(torch.stack(padded), sizes)


class TwoStageDetector(nn.Module):
    """Boxes and masks from proposals (Mask R-CNN, Cascade Mask R-CNN).

    Args:
        backbone: Images to feature maps.
        rpn: Torchvision's region proposal network.
        heads: Region heads with `CascadeHeads`' signature.
        mean: Intensity mean for standardising, in [0, 1].
        std: Intensity standard deviation.
        divisor: Padded sizes are multiples of it.
    """

    def __init__(
        self,
        backbone: nn.Module,
        rpn: RegionProposalNetwork,
        heads: nn.Module,
        mean: float = 0.5,
        std: float = 0.25,
        divisor: int = 32,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.rpn = rpn
        self.heads = heads
        self.mean = mean
        self.std = std
        self.divisor = divisor

    @property
    def max_detections(self) -> int:
        """Most detections that an image can have."""
        return int(self.heads.detections)  # type: ignore[arg-type]

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
        batch = batch_images(images, self.divisor, self.mean, self.std)
        features: OrderedDict[str, Tensor] = self.backbone(batch.tensors)
        if not self.training:
            return self.detect(features, batch)
        assert targets is not None
        proposals, losses = self.rpn(batch, _levels(features), [{"boxes": _solid(target.boxes)} for target in targets])
        losses = {
            "loss_rpn_objectness": losses["loss_objectness"],
            "loss_rpn_box": losses["loss_rpn_box_reg"],
        }
        head_losses: dict[str, Tensor] = self.heads(features, proposals, batch.image_sizes, targets)
        return losses | head_losses

    def detect(self, features: OrderedDict[str, Tensor], batch: ImageList) -> list[Detections]:
        """Detections of images whose feature maps are there already.

        Args:
            features: The backbone's maps of the batch.
            batch: See `batch_images`.

        Returns:
            One `Detections` per image.
        """
        proposals, _ = self.rpn(batch, _levels(features), None)
        found: list[Detections] = self.heads(features, proposals, batch.image_sizes)
        return found


def _solid(boxes: Tensor) -> Tensor:
    """Boxes with an area: every annotation gets its best anchors, and for one without area all are alike."""
    return boxes[((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)]


def _levels(features: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """The pyramid without the map for outlines."""
    return OrderedDict((name, feature) for name, feature in features.items() if name != "fine")
