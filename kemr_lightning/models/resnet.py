"""Torchvision's ResNet family under a feature pyramid, on one intensity channel.

A grey image must give what the same image as RGB gives under ImageNet's statistics, so the backbone itself repeats the
channel and standardises each copy with ImageNet's mean and standard deviation. Detectors on it therefore pass
intensities in [0, 1] on as they are (``mean=0``, ``std=1`` in their configuration). Folding the three copies into a
stem of one channel would be cheaper but not the same: its zero padding would stand for another grey in each channel.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import resnet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from kemr_lightning.core.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NORMS = ("frozen", "batch", "group")
STAGES = ("layer1", "layer2", "layer3", "layer4")
FREEZING_ORDER = ("conv1", "layer1", "layer2", "layer3", "layer4")


def resnet_names() -> list[str]:
    """Names of torchvision's ResNet family: ``resnet18`` to ``resnet152``, ResNeXt and Wide ResNet."""
    return [name for name in models.list_models(models) if models.get_model_builder(name).__module__ == resnet.__name__]


def norm_layer(norm: str, eps: float = 1e-5) -> Callable[[int], nn.Module]:
    """A normalisation layer by name.

    Args:
        norm: ``"frozen"`` (BatchNorm with fixed statistics and affine parameters), ``"batch"`` or ``"group"`` (32
            groups, Wu & He 2018).
        eps: Added to the variance.

    Returns:
        Called with the number of channels.

    Raises:
        UserError: No such name.
    """
    if norm == "frozen":
        return partial(FrozenBatchNorm2d, eps=eps)
    if norm == "batch":
        return partial(nn.BatchNorm2d, eps=eps)
    if norm == "group":
        return lambda channels: nn.GroupNorm(32, channels, eps=eps)
    raise UserError(f"model.backbone.norm={norm} is not a normalisation. Choose from {', '.join(NORMS)}")


class ResNetFPN(nn.Module):
    """A residual network with a feature pyramid (He et al. 2016; Lin et al. 2017).

    Parameters bear the names of torchvision's detection models: ``body.*`` and ``fpn.*``.

    Args:
        body: One of torchvision's ResNets; its classifier is dropped.
        architecture: Its name in torchvision, by which its weights are found.
        first_stage: First of the four stages that feeds the pyramid: 1 for P2-P5, 2 for P3-P5.
        extra: Coarser levels on top: ``"pool"`` (P6, every second element of P5, for proposals only) or ``"p6p7"`` (two
            strided convolutions, as in FCOS).
        out_channels: Channels of the pyramid.
        trainable_layers: How many of stem, stage 1, ..., stage 4 learn, counted from stage 4: 5 for all, 0 for none.
            Frozen ones also keep their BatchNorm statistics.

    Attributes:
        out_channels: Channels of every level.
        strides: Stride of every level that `forward` returns, finest first.
        pooled_strides: Stride of the levels that regions are pooled from, which come first.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: resnet.ResNet,
        architecture: str,
        first_stage: int = 1,
        extra: str = "pool",
        out_channels: int = 256,
        trainable_layers: int = 5,
    ) -> None:
        super().__init__()
        if extra not in ("pool", "p6p7"):
            raise ValueError(f"extra must be 'pool' or 'p6p7', not {extra!r}")
        if not 1 <= first_stage <= 4:
            raise ValueError(f"first_stage must be 1 to 4, not {first_stage}")
        self.architecture = architecture
        self.frozen = FREEZING_ORDER[: 5 - trainable_layers]
        width = body.inplanes // 8  # channels of the first stage
        used = range(first_stage, 5)
        self.body = IntermediateLayerGetter(body, {STAGES[stage - 1]: str(i) for i, stage in enumerate(used)})
        blocks: nn.Module = LastLevelMaxPool() if extra == "pool" else LastLevelP6P7(out_channels, out_channels)
        self.fpn = FeaturePyramidNetwork([width * 2 ** (stage - 1) for stage in used], out_channels, blocks)
        self.out_channels = out_channels
        self.pooled_strides = [2 ** (stage + 1) for stage in used]
        self.strides = self.pooled_strides + ([64] if extra == "pool" else [64, 128])
        # Constants, not part of a checkpoint.
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        for layer in self._frozen_layers():
            layer.requires_grad_(False)

    def _frozen_layers(self) -> list[nn.Module]:
        # The first normalisation belongs to the stem.
        names = (*self.frozen, "bn1") if self.frozen else ()
        return [layer for name, layer in self.body.named_children() if name in names]

    def train(self, mode: bool = True) -> ResNetFPN:
        """Switch the mode; frozen layers stay in evaluation mode, so that BatchNorm in them keeps its statistics."""
        super().train(mode)
        for layer in self._frozen_layers():
            layer.eval()
        return self

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Features by level, finest first.

        Args:
            images: ``(B, 1, H, W)`` intensities in [0, 1].

        Returns:
            ``(B, out_channels, H / stride, W / stride)`` maps under ``"0"``, ``"1"``, ... and ``"pool"`` or ``"p6"``,
            ``"p7"``.
        """
        features: OrderedDict[str, Tensor] = self.fpn(self.body((images - self.mean) / self.std))
        return features


def resnet_fpn(
    name: str = "resnet101",
    pretrained: str = "none",
    norm: str | None = None,
    trainable_layers: int | None = None,
    first_stage: int = 1,
    extra: str = "pool",
    out_channels: int = 256,
) -> ResNetFPN:
    """A ResNet with a feature pyramid, with random weights.

    Args:
        name: One of `resnet_names`.
        pretrained: The weights that the whole detector is going to load (``model.weights``; see
            `kemr_lightning.models.weights`). Nothing is loaded here: it decides the defaults of ``norm`` and
            ``trainable_layers``, so that a model rebuilt from a checkpoint, which loads nothing, is still the same one.
        norm: See `norm_layer`. None: ``"frozen"`` with pretrained weights, ``"batch"`` without, for a ResNet of random
            weights explodes where nothing normalises.
        trainable_layers: See `ResNetFPN`. None: 3 (stem and first stage frozen) with pretrained weights, 5 without.
        first_stage: See `ResNetFPN`.
        extra: See `ResNetFPN`.
        out_channels: See `ResNetFPN`.

    Returns:
        The backbone.

    Raises:
        UserError: Unknown name or normalisation, or frozen layers that would stay random.
    """
    if name not in resnet_names():
        raise UserError(f"model.backbone.name={name} is not a ResNet. Choose from {', '.join(resnet_names())}")
    learned = pretrained != "none"
    norm = norm or ("frozen" if learned else "batch")
    layers = trainable_layers if trainable_layers is not None else (3 if learned else 5)
    if not 0 <= layers <= 5:
        raise UserError(f"model.backbone.trainable_layers={layers} is out of range. Give 0 to 5, or null")
    if not learned and (norm == "frozen" or layers < 5):
        raise UserError(
            "model.weights=none leaves nothing to freeze, but model.backbone asks for frozen layers. "
            "Use norm=batch or norm=group and trainable_layers=null, or give weights"
        )
    # Torchvision's Mask R-CNN on COCO was trained with a variance that nothing was added to; its FCOS, whose pyramid
    # goes up to P7, was not.
    layer = norm_layer(norm, 0.0 if pretrained == "coco" and norm == "frozen" and extra == "pool" else 1e-5)
    body: resnet.ResNet = models.get_model_builder(name)(weights=None, norm_layer=layer)
    return ResNetFPN(body, name, first_stage, extra, out_channels, layers)
