"""Torchvision's FCOS head, extended by what BlendMask needs: attention maps and the assignment behind the losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead

from kemr_lightning.models.ignored import on_ignored


def per_location(maps: Tensor) -> Tensor:
    """``(B, C, H, W)`` -> ``(B, H * W, C)``, row by row, as torchvision orders anchors."""
    return maps.flatten(2).transpose(1, 2)


def neighbourhoods(maps: Sequence[Tensor], image: Tensor, location: Tensor) -> Tensor:
    """The input of a padded 3x3 convolution at single locations of a pyramid.

    Args:
        maps: ``(B, C, H_l, W_l)`` per level.
        image: ``(K,)`` int64, position in the batch.
        location: ``(K,)`` int64, position among all levels' locations, finest level first, row by row.

    Returns:
        ``(K, C, 3, 3)``, zeros beyond the maps' borders.
    """
    channels = maps[0].shape[1]
    rows, starts = [], []
    level_start, row_start = 0, 0
    index = torch.zeros_like(location)
    line = torch.zeros_like(location)
    for feature in maps:
        batch, _, height, width = feature.shape
        rows.append(F.pad(feature, (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, channels))
        starts.append(row_start)
        within = location - level_start
        here = (within >= 0) & (within < height * width)
        y, x = torch.div(within, width, rounding_mode="floor"), within % width
        # The upper left corner of the neighbourhood in the padded map is the location itself in the unpadded one.
        corner = row_start + (image * (height + 2) + y) * (width + 2) + x
        index = torch.where(here, corner, index)
        line = torch.where(here, width + 2, line)
        level_start += height * width
        row_start += batch * (height + 2) * (width + 2)
    step = torch.arange(3, device=location.device)
    wanted = index[:, None, None] + step[:, None] * line[:, None, None] + step
    return torch.cat(rows).index_select(0, wanted.flatten()).view(-1, 3, 3, channels).permute(0, 3, 1, 2)


def cell_of(anchors: Tensor) -> Tensor:
    """The pixel in the middle of each anchor, ``(L, 4)``, as boxes."""
    middle = ((anchors[:, :2] + anchors[:, 2:]) / 2).floor()
    return torch.cat([middle, middle + 1], dim=1)


@dataclass
class HeadOutputs:
    """The head's predictions at every location of a batch of pyramids.

    Attributes:
        predictions: Torchvision's ``cls_logits (B, L, classes)``, ``bbox_regression (B, L, 4)`` in units of the anchor
            size, ``bbox_ctrness (B, L, 1)`` logits.
        towers: ``(B, C, H_l, W_l)`` per level: the features in front of the box regression.
    """

    predictions: dict[str, Tensor]
    towers: list[Tensor]


class AttentionFCOSHead(FCOSHead):  # type: ignore[misc]
    """Torchvision's FCOS head with a third prediction from the box tower: BlendMask's top-level attention.

    There are two towers of convolutions, shared by all levels: class scores come from one; boxes, centerness and
    attention from the other (Tian et al. 2019; Chen et al. 2020, section 3.1). The attention's 3x3 convolution is the
    largest layer of the model, with ``bases * size²`` channels, so it is computed only at the requested locations; the
    result is the same.

    Args:
        channels: Channels of the pyramid and of both towers.
        num_classes: Foreground classes.
        convs: Convolutions of each tower.
        groups: Groups of the towers' GroupNorm; a divisor of ``channels``.
        bases: Attention maps per instance.
        attention_size: Cells along a side of an attention map.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        convs: int = 4,
        groups: int = 32,
        bases: int = 4,
        attention_size: int = 14,
    ) -> None:
        # Torchvision's constructor does not let one choose the norm; without convolutions it makes none.
        super().__init__(channels, 1, num_classes, num_convs=0)
        norm = partial(nn.GroupNorm, groups)
        self.classification_head = FCOSClassificationHead(channels, 1, num_classes, convs, norm_layer=norm)
        self.regression_head = FCOSRegressionHead(channels, 1, convs, norm_layer=norm)
        # Distances pass a ReLU: if they started at 0, half of them would have no gradient. Two anchor sizes are usual.
        nn.init.constant_(self.regression_head.bbox_reg.bias, 2.0)
        self.bases = bases
        self.attention_size = attention_size
        self.attention = nn.Conv2d(channels, bases * attention_size**2, 3, 1, 1)
        nn.init.normal_(self.attention.weight, std=0.01)
        nn.init.zeros_(self.attention.bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> HeadOutputs:
        """Predict at all levels.

        Args:
            levels: ``(B, channels, H_l, W_l)``, finest first.

        Returns:
            The predictions, and the features that `attend` needs.
        """
        regression = self.regression_head
        towers: list[Tensor] = [regression.conv(level) for level in levels]
        predictions = {
            "cls_logits": self.classification_head(list(levels)),
            "bbox_regression": torch.cat([per_location(regression.bbox_reg(tower).relu()) for tower in towers], dim=1),
            "bbox_ctrness": torch.cat([per_location(regression.bbox_ctrness(tower)) for tower in towers], dim=1),
        }
        return HeadOutputs(predictions, towers)

    def attend(self, towers: Sequence[Tensor], image: Tensor, location: Tensor) -> Tensor:
        """Predict attention maps at single locations.

        Args:
            towers: See `HeadOutputs`.
            image: ``(K,)`` int64, position in the batch.
            location: ``(K,)`` int64, position among all levels' locations.

        Returns:
            ``(K, bases, attention_size, attention_size)`` logits.
        """
        seen = neighbourhoods(towers, image, location).flatten(1)
        values = F.linear(seen, self.attention.weight.flatten(1), self.attention.bias)
        return values.view(-1, self.bases, self.attention_size, self.attention_size)

    def compute_loss(
        self,
        targets: list[dict[str, Any]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Compute torchvision's losses, and return the assignment that they were computed with.

        ``FCOS.compute_loss`` assigns annotations to locations and calls this; the mask loss needs the same assignment.

        Args:
            targets: ``boxes (G, 4)``, ``labels (G,)`` from 0 and, for all or none, the annotations as ``instances``.
                Background locations on ignored regions do not count.
            head_outputs: `HeadOutputs.predictions`.
            anchors: ``(L, 4)`` per image.
            matched_idxs: ``(L,)`` int64 per image: the annotation of each location, -1 for background.

        Returns:
            Torchvision's scalars ``classification``, ``bbox_regression`` and ``bbox_ctrness``, and ``matches``
            ``(B, L)`` int64.
        """
        instances = [target["instances"] for target in targets if "instances" in target]
        if any(each.ignored is not None for each in instances):
            left_out = torch.stack(
                [
                    (match < 0) & on_ignored(each, cell_of(anchor))
                    for each, match, anchor in zip(instances, matched_idxs, anchors, strict=True)
                ]
            )
            # Background that is certain adds nothing to the focal loss.
            certain = head_outputs["cls_logits"].masked_fill(left_out[..., None], -1e4)
            head_outputs = {**head_outputs, "cls_logits": certain}
        losses: dict[str, Tensor] = super().compute_loss(targets, head_outputs, anchors, matched_idxs)
        return losses | {"matches": torch.stack(matched_idxs)}

    def centerness(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """How central points are in boxes: 1 in the middle, 0 on the rim (Tian et al. 2019, Eq. 3).

        Args:
            anchors: ``(K, 4)`` whose centres are the points.
            boxes: ``(K, 4)`` that hold them.

        Returns:
            ``(K,)`` in [0, 1].
        """
        left, top, right, bottom = self.box_coder.encode(anchors, boxes).clamp(min=0).unbind(dim=1)
        across = torch.minimum(left, right) / torch.maximum(left, right).clamp(min=1e-6)
        along = torch.minimum(top, bottom) / torch.maximum(top, bottom).clamp(min=1e-6)
        return (across * along).sqrt()
