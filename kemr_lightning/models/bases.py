"""BlendMask's bottom module: the bases, and an auxiliary semantic segmentation that trains the features below them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kemr_lightning.core.instances import Instances


def _block(inputs: int, outputs: int, groups: int) -> nn.Sequential:
    """3x3 convolution, GroupNorm (a batch has only two images), ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.GroupNorm(groups, outputs), nn.ReLU(inplace=True))


class BasisDecoder(nn.Module):
    """Bases from the finest levels of a pyramid (Chen et al. 2020, section 3.1; the authors' ``ProtoNet``).

    A convolution is applied to each level, and the result is enlarged to the finest level's size. Their sum passes a
    tower of convolutions, is doubled in size, and becomes the bases, at half the finest level's stride.

    Args:
        channels: Channels of the pyramid.
        levels: Levels used, finest first.
        width: Channels of the decoder.
        convs: Convolutions on the finest level's grid.
        bases: Bases.
        groups: Groups of every GroupNorm; a divisor of ``width`` and ``fine_width``.
        fine_channels: Channels of a backbone map at the bases' stride that is concatenated after doubling; 0 for none.
        fine_width: Channels of the last convolution, on the doubled grid; None for ``width``.
    """

    def __init__(
        self,
        channels: int,
        levels: int = 3,
        width: int = 128,
        convs: int = 3,
        bases: int = 4,
        groups: int = 32,
        fine_channels: int = 0,
        fine_width: int | None = None,
    ) -> None:
        super().__init__()
        last = width if fine_width is None else fine_width
        self.lateral = nn.ModuleList(_block(channels, width, groups) for _ in range(levels))
        self.tower = nn.Sequential(*(_block(width, width, groups) for _ in range(convs)))
        self.fine_channels = fine_channels
        self.output = nn.Sequential(_block(width + fine_channels, last, groups), nn.Conv2d(last, bases, 1))

    def forward(self, levels: Sequence[Tensor], fine: Tensor | None = None) -> Tensor:
        """Compute the bases.

        Args:
            levels: ``(B, channels, H_l, W_l)``, finest first; further levels are ignored.
            fine: ``(B, fine_channels, 2 H_0, 2 W_0)`` if the decoder was built with ``fine_channels``.

        Returns:
            ``(B, bases, 2 H_0, 2 W_0)``.

        Raises:
            ValueError: The decoder was built with a fine map and got none.
        """
        size = levels[0].shape[-2:]
        total: Tensor = self.lateral[0](levels[0])
        for lateral, level in zip(self.lateral[1:], levels[1:], strict=False):
            total = total + F.interpolate(lateral(level), size=size, mode="bilinear")
        features = F.interpolate(self.tower(total), scale_factor=2.0, mode="bilinear")
        if self.fine_channels:
            if fine is None:
                raise ValueError("this decoder needs the backbone's fine map")
            features = torch.cat([features, fine], dim=1)
        bases: Tensor = self.output(features)
        return bases


class SemanticHead(nn.Sequential):
    """Classifies the cells of the finest level, in training only.

    ``(B, channels, H, W)`` -> ``(B, num_classes + 1, H, W)`` logits.

    Args:
        channels: Channels of the pyramid.
        num_classes: Foreground classes; channel 0 of the output is the background.
        width: Channels of its two convolutions.
        groups: Groups of every GroupNorm.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 128, groups: int = 32) -> None:
        super().__init__(
            _block(channels, width, groups), _block(width, width, groups), nn.Conv2d(width, num_classes + 1, 1)
        )


def semantic_targets(target: Instances, num_classes: int, size: tuple[int, int], stride: int) -> Tensor:
    """Semantic segmentation of an image from its instance masks, as a distribution over the classes in each cell.

    The background's share of a cell is the part that no instance covers. The rest is divided among the classes in
    proportion to the area that each covers, where pixels under several instances of a class count once. Instances of
    different classes that cross thus share their crossing.

    Args:
        target: Annotations with patches.
        num_classes: Foreground classes.
        size: ``(rows, columns)`` of cells. They may reach beyond the image (padding), where all is background.
        stride: Pixels along a cell's side.

    Returns:
        ``(num_classes + 1, rows, columns)`` float32, summing to 1 in each cell; channel 0 is the background.
    """
    rows, columns = size
    device = target.boxes.device
    covered = torch.zeros((num_classes, rows, columns), device=device)
    anything = torch.zeros((rows * stride, columns * stride), device=device)
    for label in sorted(set(target.labels.tolist())):
        union = torch.zeros_like(anything)
        for index in torch.nonzero(target.labels == label)[:, 0].tolist():
            patch = (target.patches or [])[index]
            x0, y0, x1, y1 = patch.window
            window = union[y0:y1, x0:x1]
            window.copy_(torch.maximum(window, patch.values.to(window)))
        covered[label - 1] = F.avg_pool2d(union[None], stride)[0]
        anything = torch.maximum(anything, union)
    foreground = F.avg_pool2d(anything[None], stride)[0]
    shares = covered * (foreground / covered.sum(dim=0).clamp(min=1e-6))
    return torch.cat([1 - foreground[None], shares])


def semantic_loss(logits: Tensor, targets: Sequence[Instances], stride: int) -> Tensor:
    """Mean cross-entropy between the predicted and the annotated distribution in each cell.

    Args:
        logits: ``(B, num_classes + 1, H, W)``.
        targets: Annotations per image; images in which some have only a box do not contribute.
        stride: Pixels along a cell's side.

    Returns:
        A scalar; 0 (with a graph) if no image has masks.
    """
    known = [
        index
        for index, target in enumerate(targets)
        if target.patches is not None and (target.outlined is None or bool(target.outlined.all()))
    ]
    if not known:
        return logits.sum() * 0
    size = (int(logits.shape[-2]), int(logits.shape[-1]))
    wanted = torch.stack([semantic_targets(targets[index], logits.shape[1] - 1, size, stride) for index in known])
    return F.cross_entropy(logits[known], wanted.to(logits))
