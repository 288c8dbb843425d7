"""Feature pyramids: torchvision's ResNets and a small network that trains from scratch on a CPU.

Every backbone maps ``(B, 1, H, W)`` to an ordered dict of feature maps, finest first, and tells ``out_channels`` (of
the pyramid's levels) and ``strides`` (one per level).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with normalisation and a shortcut (He et al. 2016, basic block).

    Args:
        inputs: Input channels.
        outputs: Output channels.
        stride: Stride of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` -> ``(B, outputs, H / stride, W / stride)``."""
        output: Tensor = self.activation(self.body(features) + self.shortcut(features))
        return output


class TinyBackbone(nn.Module):
    """A small residual network with a feature pyramid, for training from scratch on a CPU.

    A 5x5 stem at stride 2 is followed by stages at strides 4, 8, 16, ...; all but the stem feed the pyramid. The stem's
    own output (stride 2) is returned by `forward` under ``"fine"`` for heads that look at outlines.

    Args:
        channels: Channels of the stem and of each stage.
        blocks: Residual blocks per stage.
        out_channels: Channels of the pyramid.
        in_channels: Input channels.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 96),
        blocks: Sequence[int] = (1, 2, 1),
        out_channels: int = 48,
        in_channels: int = 1,
    ) -> None:
        super().__init__()
        if len(blocks) != len(channels) - 1:
            raise ValueError(f"one number of blocks per stage: {len(channels) - 1} stages, blocks={list(blocks)}")
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels[0], 5, 2, 2, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True)
        )
        self.stages = nn.ModuleList()
        for inputs, outputs, count in zip(channels[:-1], channels[1:], blocks, strict=True):
            first = ResidualBlock(inputs, outputs, 2)
            self.stages.append(nn.Sequential(first, *(ResidualBlock(outputs, outputs, 1) for _ in range(count - 1))))
        self.pyramid = FeaturePyramidNetwork(list(channels[1:]), out_channels)
        self.out_channels = out_channels
        self.strides = [4 * 2**level for level in range(len(blocks))]
        self.fine_channels = channels[0]
        self.fine_stride = 2
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Features by name: ``"0"``, ``"1"``, ... the pyramid's levels and ``"fine"``."""
        features = fine = self.stem(images)
        levels: OrderedDict[str, Tensor] = OrderedDict()
        for index, stage in enumerate(self.stages):
            features = stage(features)
            levels[str(index)] = features
        pyramid: OrderedDict[str, Tensor] = self.pyramid(levels)
        pyramid["fine"] = fine
        return pyramid
