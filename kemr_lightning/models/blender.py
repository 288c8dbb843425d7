"""BlendMask's blender: the bases on an instance's region, weighted by its attention (Chen et al. 2020, Eq. 3-6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kemr_lightning.core.geometry import grow_boxes, mask_targets
from kemr_lightning.core.instances import Instances
from kemr_lightning.models.pooler import AlignedRoIPooler


def blend(bases: Tensor, attention: Tensor) -> Tensor:
    """Weighted sum of the bases; the weights are a softmax over the bases in each cell.

    Args:
        bases: ``(K, N, M, M)`` bases on each instance's region.
        attention: ``(K, N, A, A)`` logits; enlarged bilinearly to ``M x M`` before the softmax.

    Returns:
        ``(K, M, M)`` mask logits.
    """
    weights = F.interpolate(attention, size=bases.shape[-2:], mode="bilinear").softmax(dim=1)
    return (bases * weights).sum(dim=1)


def blend_loss(logits: Tensor, expected: Tensor, centerness: Tensor) -> Tensor:
    """Binary cross-entropy of the masks, averaged with the centerness of their locations as weights.

    Args:
        logits: ``(K, M, M)``, K > 0.
        expected: ``(K, M, M)`` in [0, 1].
        centerness: ``(K,)`` in [0, 1].

    Returns:
        A scalar.
    """
    each = F.binary_cross_entropy_with_logits(logits, expected, reduction="none").mean(dim=(1, 2))
    return (each * centerness).sum() / centerness.sum().clamp(min=1e-6)


class Blender(nn.Module):
    """Pools bases on regions, blends them, and compares the masks with exact targets. It has no parameters.

    As in `MaskBranch`, masks are predicted on regions: boxes grown around their centres.

    Args:
        stride: Stride of the bases.
        size: Cells along a side of the masks.
        growth: Fraction of a box's width and height added in total.
        margin: Pixels added on each side on top of that.
        binary_targets: Whether to threshold the targets at half coverage; otherwise they are the covered fractions.
        sampling_ratio: RoIAlign samples per cell along a side.
    """

    def __init__(
        self,
        stride: int,
        size: int = 56,
        growth: float = 0.0,
        margin: float = 0.0,
        binary_targets: bool = False,
        sampling_ratio: int = 1,
    ) -> None:
        super().__init__()
        self.pooler = AlignedRoIPooler(size, [stride], sampling_ratio)
        self.size = size
        self.growth = growth
        self.margin = margin
        self.binary_targets = binary_targets

    def loss(
        self,
        bases: Tensor,
        targets: Sequence[Instances],
        attention: Tensor,
        matches: Sequence[Tensor],
        centerness: Tensor,
    ) -> Tensor:
        """Mask loss of positive locations. The bases are pooled on the annotated boxes, once per box.

        Args:
            bases: ``(B, N, H, W)``.
            targets: Annotations per image; those that a location is matched with have patches.
            attention: ``(sum K_i, N, A, A)`` of the locations, image by image.
            matches: ``(K_i,)`` int64 per image: the annotation of each location.
            centerness: ``(sum K_i,)`` of the locations.

        Returns:
            A scalar; 0 (with a graph) without locations.
        """
        if len(attention) == 0:
            return attention.sum() * 0 + bases.sum() * 0
        regions, expected, rows = [], [], []
        before = 0
        for target, match in zip(targets, matches, strict=True):
            used, row = torch.unique(match, return_inverse=True)
            region = grow_boxes(target.boxes[used], self.growth, self.margin)
            regions.append(region)
            expected.append(mask_targets(target.patches or [], used, region, self.size))
            rows.append(row + before)
            before += len(used)
        row, wanted = torch.cat(rows), torch.cat(expected)
        if self.binary_targets:
            wanted = (wanted >= 0.5).to(wanted)
        pooled = self.pooler([bases], regions)
        return blend_loss(blend(pooled[row], attention), wanted[row], centerness)

    def predict(self, bases: Tensor, boxes: Sequence[Tensor], attention: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Predict the masks of detected boxes.

        Args:
            bases: ``(B, N, H, W)``.
            boxes: ``(K_i, 4)`` per image.
            attention: ``(sum K_i, N, A, A)``.

        Returns:
            Per image: grids ``(K_i, M, M)`` probabilities and regions ``(K_i, 4)``.
        """
        regions = [grow_boxes(box, self.growth, self.margin) for box in boxes]
        grids = blend(self.pooler([bases], regions), attention).float().sigmoid()
        return list(torch.split(grids, [len(box) for box in boxes])), regions
