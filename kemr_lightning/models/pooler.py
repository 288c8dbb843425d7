"""RoIAlign over a feature pyramid with exact pixel centres.

Torchvision's ``MultiScaleRoIAlign`` calls ``roi_align`` without ``aligned=True``, which shifts every sample by half a
feature pixel. Here regions are assigned to levels in the same way, and pooled with the aligned operator.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align


class AlignedRoIPooler(nn.Module):
    """Pools each region from the pyramid level that suits its size (Lin et al. 2017, Eq. 1).

    Args:
        output_size: Cells along a side of the pooled grid.
        strides: Stride of each level, finest first, each twice the one before.
        sampling_ratio: Samples per cell along a side.
        canonical_size: Side in pixels of a region that is pooled from the level of stride ``canonical_stride``.
        canonical_stride: See ``canonical_size``.
    """

    def __init__(
        self,
        output_size: int,
        strides: Sequence[int],
        sampling_ratio: int = 2,
        canonical_size: float = 224.0,
        canonical_stride: int = 16,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.strides = list(strides)
        self.sampling_ratio = sampling_ratio
        self.canonical_size = canonical_size
        self.canonical_stride = canonical_stride

    def levels(self, boxes: Tensor) -> Tensor:
        """``(K,)`` int64, the index of each box's pyramid level."""
        side = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6).prod(dim=1).sqrt()
        stride = self.canonical_stride * side / self.canonical_size
        level = torch.floor(torch.log2(stride / self.strides[0]) + 1e-6)
        return level.clamp(0, len(self.strides) - 1).to(torch.int64)

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Pool regions.

        Args:
            features: One ``(B, C, H_l, W_l)`` map per stride.
            boxes: One ``(K_i, 4)`` tensor per image, in input pixels.

        Returns:
            ``(sum K_i, C, output_size, output_size)``.
        """
        joined = torch.cat(list(boxes))
        image = torch.cat([box.new_full((len(box), 1), i) for i, box in enumerate(boxes)])
        rois = torch.cat([image, joined], dim=1)
        size = (self.output_size, self.output_size)
        if len(self.strides) == 1:
            pooled: Tensor = roi_align(features[0], rois, size, 1 / self.strides[0], self.sampling_ratio, aligned=True)
            return pooled
        level = self.levels(joined)
        result = features[0].new_zeros((len(rois), features[0].shape[1], *size))
        for index, (feature, stride) in enumerate(zip(features, self.strides, strict=True)):
            where = torch.nonzero(level == index)[:, 0]
            pooled = roi_align(feature, rois[where], size, 1 / stride, self.sampling_ratio, aligned=True)
            result = result.index_copy(0, where, pooled.to(result.dtype))
        return result
