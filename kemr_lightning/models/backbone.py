"""A small backbone with a feature pyramid that trains from scratch on a CPU.

Every backbone, here and in `kemr_lightning.models.resnet`, maps ``(B, 1, H, W)`` to an ordered dict of feature maps,
finest first, and has the attributes ``out_channels`` (of every level of the pyramid) and ``strides`` (one per level).
Errors name its settings ``backbone.NAME``, as a model's description does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from kemr_lightning.core.errors import SettingError


class ImageNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) that evaluates each image with its own statistics.

    Averages over a training on several stains fit none of them: what is bright in one is dark in another. In training
    the statistics are those of the batch, as usual; in evaluation those of the image, as in instance normalisation
    (Ulyanov et al. 2016). Its weights have the names of batch normalisation, so that those of one load into the other.
    """

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> the same shape."""
        if self.training:
            normalised: Tensor = super().forward(features)
            return normalised
        return F.instance_norm(features, weight=self.weight, bias=self.bias, eps=self.eps)


NORMS: dict[str, type[nn.BatchNorm2d]] = {"batch": nn.BatchNorm2d, "image": ImageNorm2d}
"""Kinds of normalisation by name."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with normalisation and a shortcut (He et al. 2016, basic block).

    Args:
        inputs: Input channels.
        outputs: Output channels.
        stride: Stride of the first convolution.
        norm: Builds the normalisation of a number of channels.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            norm(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            norm(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(outputs))
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` -> ``(B, outputs, H / stride, W / stride)``."""
        output: Tensor = self.activation(self.body(features) + self.shortcut(features))
        return output


class TinyBackbone(nn.Module):
    """A small residual network with a feature pyramid.

    A 5x5 stem at stride 2 is followed by stages at strides 4, 8, 16, ..., which feed the pyramid. `forward` returns the
    stem's output (stride 2) as well, under ``"fine"``, for heads that refine outlines.

    Args:
        channels: Channels of the stem and of each stage.
        blocks: Residual blocks per stage.
        out_channels: Channels of the pyramid.
        in_channels: Input channels.
        norm: ``"batch"``: batch normalisation; ``"image"``: see `ImageNorm2d`.

    Raises:
        SettingError: ``blocks`` is not one number per stage, or there is no such normalisation.
    """

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 96),
        blocks: Sequence[int] = (1, 2, 1),
        out_channels: int = 48,
        in_channels: int = 1,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise SettingError("backbone.norm", norm, "is not a kind of normalisation", f"Use {' or '.join(NORMS)}")
        build = NORMS[norm]
        if len(blocks) != len(channels) - 1:
            raise SettingError(
                "backbone.blocks", list(blocks), "is not one number per stage", f"Give {len(channels) - 1} numbers"
            )
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels[0], 5, 2, 2, bias=False), build(channels[0]), nn.ReLU(inplace=True)
        )
        self.stages = nn.ModuleList()
        for inputs, outputs, count in zip(channels[:-1], channels[1:], blocks, strict=True):
            first = ResidualBlock(inputs, outputs, 2, build)
            self.stages.append(
                nn.Sequential(first, *(ResidualBlock(outputs, outputs, 1, build) for _ in range(count - 1)))
            )
        self.pyramid = FeaturePyramidNetwork(list(channels[1:]), out_channels)
        self.out_channels = out_channels
        self.strides = [4 * 2**level for level in range(len(blocks))]
        self.fine_channels = channels[0]
        self.fine_stride = 2
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Features by name: the pyramid's levels ``"0"``, ``"1"``, ... and ``"fine"``."""
        features = fine = self.stem(images)
        levels: OrderedDict[str, Tensor] = OrderedDict()
        for index, stage in enumerate(self.stages):
            features = stage(features)
            levels[str(index)] = features
        pyramid: OrderedDict[str, Tensor] = self.pyramid(levels)
        pyramid["fine"] = fine
        return pyramid


def check_fine_channels(backbone: nn.Module, channels: int, setting: str) -> None:
    """Check that mask heads expect the fine map that a backbone has.

    Args:
        backbone: The backbone; one without an attribute ``fine_channels`` is not checked.
        channels: Channels that the heads expect; 0 if they use no fine map.
        setting: The setting that ``channels`` comes from.

    Raises:
        SettingError: The numbers differ.
    """
    there = getattr(backbone, "fine_channels", None)
    if there is not None and channels not in (0, there):
        cure = f"Give {there}, or 0 to do without" if there else "Give 0"
        raise SettingError(setting, channels, f"is not what the backbone has ({there})", cure)
