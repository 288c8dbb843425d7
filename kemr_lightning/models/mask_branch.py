"""The mask branch: pool regions, predict masks on grids, compare them with exact targets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kemr_lightning.core.geometry import grow_boxes, mask_targets
from kemr_lightning.core.instances import Instances
from kemr_lightning.models.mask_head import MaskHead
from kemr_lightning.models.pooler import AlignedRoIPooler


def outlined_matches(target: Instances, matches: Tensor) -> Tensor:
    """Which of an image's matches lead to an annotation whose mask is known.

    Args:
        target: The annotations.
        matches: ``(K,)`` int64, positions of annotations.

    Returns:
        ``(k,)`` int64, positions in ``matches``.
    """
    if target.patches is None:
        return matches.new_zeros(0)
    if target.outlined is None:
        return torch.arange(len(matches), device=matches.device)
    return torch.nonzero(target.outlined[matches])[:, 0]


class MaskBranch(nn.Module):
    """One or several mask heads that share their pooling.

    Masks are predicted on regions: boxes grown around their centres, so that the end of a chromosome that its box cuts
    off is still inside.

    Args:
        heads: One head, or one per cascade stage.
        pooler: Pools the pyramid.
        fine_pooler: Pools the backbone's ``"fine"`` map at the heads' output size, if the heads use it.
        growth: Fraction of a box's width and height added in total.
        margin: Pixels added on each side on top of that.
        binary_targets: Whether to threshold the targets at half coverage (He et al. 2017). Otherwise they are the
            covered parts themselves, which keep the outline's place within a cell: annotated chromosomes that go
            through a 28x28 grid and back have a mean IoU of 0.997 with covered parts, and of 0.976 with thresholded
            ones.
        max_positives: Positives per image and stage that masks are trained on, a random choice; None for all.
        head_weights: Loss weight of each head.

    Raises:
        ValueError: There is not one weight per head.
    """

    def __init__(
        self,
        heads: Sequence[MaskHead],
        pooler: AlignedRoIPooler,
        fine_pooler: AlignedRoIPooler | None = None,
        growth: float = 0.0,
        margin: float = 0.0,
        binary_targets: bool = False,
        max_positives: int | None = None,
        head_weights: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        if len(head_weights) != len(heads):
            raise ValueError(f"one weight per mask head: {len(heads)} heads, weights {list(head_weights)}")
        self.heads = nn.ModuleList(heads)
        self.pooler = pooler
        self.fine_pooler = fine_pooler
        self.growth = growth
        self.margin = margin
        self.binary_targets = binary_targets
        self.max_positives = max_positives
        self.head_weights = list(head_weights)

    def _pool(self, features: OrderedDict[str, Tensor], regions: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        levels = [feature for name, feature in features.items() if name != "fine"][: len(self.pooler.strides)]
        fine = None if self.fine_pooler is None else self.fine_pooler([features["fine"]], regions)
        return self.pooler(levels, regions), fine

    def loss(
        self,
        features: OrderedDict[str, Tensor],
        boxes: Sequence[Tensor],
        matches: Sequence[Tensor],
        targets: Sequence[Instances],
        head: int = 0,
    ) -> Tensor:
        """Mean binary cross-entropy of one head on positive boxes, times its weight.

        Args:
            features: The backbone's maps.
            boxes: ``(K_i, 4)`` positive boxes per image.
            matches: ``(K_i,)`` int64, the annotation of each.
            targets: Annotations per image; those of which only the box is known do not contribute.
            head: Position of the head.

        Returns:
            A scalar; 0 (with a graph) if there are no positives with masks.
        """
        chosen_boxes, chosen_matches = [], []
        for box, match, target in zip(boxes, matches, targets, strict=True):
            keep = outlined_matches(target, match)
            if self.max_positives is not None and len(keep) > self.max_positives:
                keep = keep[torch.randperm(len(keep), device=box.device)[: self.max_positives]]
            chosen_boxes.append(box[keep])
            chosen_matches.append(match[keep])
        regions = [grow_boxes(box, self.growth, self.margin) for box in chosen_boxes]
        pooled, fine = self._pool(features, regions)
        logits = self.heads[head](pooled, fine)
        if len(logits) == 0:
            zero: Tensor = logits.sum() * 0
            return zero
        labels = torch.cat([target.labels[match] for target, match in zip(targets, chosen_matches, strict=True)])
        expected = torch.cat(
            [
                mask_targets(target.patches or [], match, region, logits.shape[-1])
                for target, match, region in zip(targets, chosen_matches, regions, strict=True)
            ]
        )
        if self.binary_targets:
            expected = (expected >= 0.5).to(logits.dtype)
        own = logits[torch.arange(len(logits), device=logits.device), labels - 1]
        return F.binary_cross_entropy_with_logits(own, expected) * self.head_weights[head]

    def predict(
        self, features: OrderedDict[str, Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None]:
        """Predict the masks of detected boxes: the mean of the heads' probabilities.

        Args:
            features: The backbone's maps.
            boxes: ``(K_i, 4)`` per image.
            labels: ``(K_i,)`` int64 from 1 per image.

        Returns:
            Per image: grids ``(K_i, M, M)`` float32 in [0, 1], regions ``(K_i, 4)``, and, with several heads, their
            disagreement ``(K_i,)`` (see `Instances`).
        """
        counts = [len(box) for box in boxes]
        probabilities, regions = self.probabilities(features, boxes, labels)
        mean = probabilities.mean(dim=0)
        grids = list(torch.split(mean, counts))
        if len(self.heads) == 1:
            return grids, regions, None
        spread = (probabilities - mean).square().mean(dim=0).sqrt().mean(dim=(1, 2))
        return grids, regions, list(torch.split(spread, counts))

    def probabilities(
        self, features: OrderedDict[str, Tensor], boxes: Sequence[Tensor], labels: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Predict the masks of detected boxes with each head.

        Args:
            features: See `predict`.
            boxes: See `predict`.
            labels: See `predict`.

        Returns:
            ``(heads, sum of K_i, M, M)`` probabilities, and the regions ``(K_i, 4)`` per image.
        """
        regions = [grow_boxes(box, self.growth, self.margin) for box in boxes]
        pooled, fine = self._pool(features, regions)
        own = torch.cat(list(labels)) - 1
        index = torch.arange(len(own), device=own.device)
        return torch.stack([head(pooled, fine)[index, own].float().sigmoid() for head in self.heads]), regions
