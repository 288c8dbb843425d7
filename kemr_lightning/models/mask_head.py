"""Mask heads: from a pooled region to mask logits on a grid twice as fine."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskHead(nn.Module):
    """Convolutions, one transposed convolution, one prediction per class (He et al. 2017, Figure 4 right).

    Args:
        channels: Channels of the pooled features.
        num_classes: Foreground classes.
        width: Channels of the head.
        convs: 3x3 convolutions before the grid is doubled.
        fine_channels: Channels of a second, finer pooled map (on the grid of the output), which is concatenated before
            one more convolution; 0 for none.
        fine_width: Channels of the head on the doubled grid; None for ``width``.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        width: int = 256,
        convs: int = 4,
        fine_channels: int = 0,
        fine_width: int | None = None,
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        inputs = channels
        for _ in range(convs):
            parts += [nn.Conv2d(inputs, width, 3, 1, 1), nn.ReLU(inplace=True)]
            inputs = width
        doubled = width if fine_width is None else fine_width
        parts += [nn.ConvTranspose2d(inputs, doubled, 2, 2), nn.ReLU(inplace=True)]
        self.coarse = nn.Sequential(*parts)
        self.fine: nn.Module | None = None
        if fine_channels:
            self.fine = nn.Sequential(nn.Conv2d(doubled + fine_channels, doubled, 3, 1, 1), nn.ReLU(inplace=True))
        self.logits = nn.Conv2d(doubled, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module is not self.logits:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.logits.weight, std=0.01)
        nn.init.zeros_(self.logits.bias)  # type: ignore[arg-type]

    def forward(self, pooled: Tensor, fine: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            pooled: ``(K, channels, S, S)``.
            fine: ``(K, fine_channels, 2 S, 2 S)`` if the head was built with ``fine_channels``.

        Returns:
            ``(K, num_classes, 2 S, 2 S)`` logits.

        Raises:
            ValueError: The head was built with ``fine_channels`` and got no fine features.
        """
        features = self.coarse(pooled)
        if self.fine is not None:
            if fine is None:
                raise ValueError("this mask head needs fine features")
            features = self.fine(torch.cat([features, fine], dim=1))
        logits: Tensor = self.logits(features)
        return logits
