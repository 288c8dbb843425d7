"""Box heads: from a pooled region to class logits and box deltas."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher


class ConvBoxHead(nn.Sequential):
    """Convolutions on the pooled grid, then fully connected layers (``2fc`` with ``convs=0``, Lin et al. 2017).

    Args:
        channels: Channels of the pooled features.
        size: Cells along a side of the pooled grid.
        convs: 3x3 convolutions before flattening.
        width: Units of each fully connected layer, and `out_features`.
        layers: Fully connected layers.
    """

    def __init__(self, channels: int, size: int = 7, convs: int = 0, width: int = 1024, layers: int = 2) -> None:
        parts: list[nn.Module] = []
        for _ in range(convs):
            parts += [nn.Conv2d(channels, channels, 3, 1, 1), nn.ReLU(inplace=True)]
        parts.append(nn.Flatten())
        inputs = channels * size * size
        for _ in range(layers):
            parts += [nn.Linear(inputs, width), nn.ReLU(inplace=True)]
            inputs = width
        super().__init__(*parts)
        self.out_features = inputs
        for part in parts:
            if isinstance(part, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                nn.init.zeros_(part.bias)  # type: ignore[arg-type]


class BoxStage(nn.Module):
    """One stage of a cascade: its head, its IoU threshold and its box coding (Cai & Vasconcelos 2018).

    Args:
        head: Pooled features ``(K, C, S, S)`` -> ``(K, head.out_features)``.
        num_classes: Foreground classes.
        iou_threshold: A proposal is positive at this IoU or above, negative below it.
        box_weights: Factors of the deltas ``(dx, dy, dw, dh)``.
        class_agnostic: Whether all classes share one set of deltas; otherwise each has its own.
        smooth_l1_beta: Where the box loss changes from quadratic to linear, in units of the weighted deltas; 0 makes it
            linear throughout.
    """

    def __init__(
        self,
        head: nn.Module,
        num_classes: int,
        iou_threshold: float,
        box_weights: Sequence[float],
        class_agnostic: bool = True,
        smooth_l1_beta: float = 1.0,
    ) -> None:
        super().__init__()
        features = int(head.out_features)  # type: ignore[arg-type]
        self.head = head
        self.num_classes = num_classes
        self.class_agnostic = class_agnostic
        self.smooth_l1_beta = smooth_l1_beta
        self.class_logits = nn.Linear(features, num_classes + 1)
        self.deltas = nn.Linear(features, 4 if class_agnostic else 4 * num_classes)
        nn.init.normal_(self.class_logits.weight, std=0.01)
        nn.init.normal_(self.deltas.weight, std=0.001)
        nn.init.zeros_(self.class_logits.bias)
        nn.init.zeros_(self.deltas.bias)
        self.matcher = Matcher(iou_threshold, iou_threshold, allow_low_quality_matches=False)
        self.coder = BoxCoder(tuple(float(weight) for weight in box_weights))

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Predict.

        Args:
            pooled: ``(K, C, S, S)``.

        Returns:
            Logits ``(K, num_classes + 1)``, background first, and deltas ``(K, 4 or 4 num_classes)``.
        """
        features = self.head(pooled)
        return self.class_logits(features), self.deltas(features)

    def deltas_of(self, deltas: Tensor, labels: Tensor) -> Tensor:
        """The four deltas of each box's own class.

        Args:
            deltas: ``(K, 4 or 4 num_classes)``.
            labels: ``(K,)`` int64 from 1; ignored if class-agnostic.

        Returns:
            ``(K, 4)``.
        """
        if self.class_agnostic:
            return deltas
        chosen = deltas.view(-1, self.num_classes, 4)
        return chosen[torch.arange(len(chosen), device=deltas.device), labels - 1]

    def refine(self, boxes: Tensor, logits: Tensor, deltas: Tensor) -> Tensor:
        """Apply the deltas to the boxes ``(K, 4)``: those of the likeliest foreground class, where each has its own."""
        chosen = self.deltas_of(deltas, logits[:, 1:].argmax(dim=1) + 1)
        refined: Tensor = self.coder.decode_single(chosen, boxes)
        return refined

    def losses(self, logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Classification and box loss, both averaged over all sampled boxes (Girshick 2015, Eq. 1).

        Args:
            logits: ``(K, num_classes + 1)``.
            deltas: ``(K, 4 or 4 num_classes)``.
            labels: ``(K,)`` int64, 0 for background.
            targets: ``(K, 4)`` deltas to regress to; rows of background boxes are ignored.

        Returns:
            Two scalars; 0 (with a graph) if there are no boxes.
        """
        if len(labels) == 0:
            return logits.sum() * 0, deltas.sum() * 0
        positive = torch.nonzero(labels > 0)[:, 0]
        chosen = self.deltas_of(deltas[positive], labels[positive])
        box_loss = F.smooth_l1_loss(chosen, targets[positive], beta=self.smooth_l1_beta, reduction="sum") / len(labels)
        return F.cross_entropy(logits, labels), box_loss
