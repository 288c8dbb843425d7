"""Torchvision's ResNet family under a feature pyramid, on one intensity channel.

A grey image must give the same features as its RGB copy standardised with ImageNet's statistics. So the backbone
itself repeats the channel and standardises each copy with ImageNet's mean and standard deviation; detectors on it pass
intensities in [0, 1] on unchanged (``mean=0``, ``std=1`` in their configuration). Folding the three copies into a stem
of one channel would be cheaper but not equal: zero padding stands for a different grey in each standardised channel.
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

from kemr_lightning.core.errors import SettingError, settings_under

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NORMS = ("frozen", "batch", "group")
EXTRA = ("pool", "p6p7")
STAGES = ("layer1", "layer2", "layer3", "layer4")
FREEZING_ORDER = ("conv1", "layer1", "layer2", "layer3", "layer4")


def resnet_names() -> list[str]:
    """The names of torchvision's ResNet family: ``resnet18`` to ``resnet152``, ResNeXt and Wide ResNet."""
    return [name for name in models.list_models(models) if models.get_model_builder(name).__module__ == resnet.__name__]


def norm_layer(norm: str, eps: float = 1e-5) -> Callable[[int], nn.Module]:
    """The constructor of a normalisation layer.

    Args:
        norm: ``"frozen"`` (BatchNorm with fixed statistics and affine parameters), ``"batch"`` or ``"group"`` (32
            groups, Wu & He 2018).
        eps: Added to the variance.

    Returns:
        A function from a number of channels to the layer.

    Raises:
        SettingError: There is no normalisation of that name.
    """
    if norm == "frozen":
        return partial(FrozenBatchNorm2d, eps=eps)
    if norm == "batch":
        return partial(nn.BatchNorm2d, eps=eps)
    if norm == "group":
        return lambda channels: nn.GroupNorm(32, channels, eps=eps)
    raise SettingError("norm", norm, "is not a normalisation", f"Choose from {', '.join(NORMS)}")


class ResNetFPN(nn.Module):
    """A residual network with a feature pyramid (He et al. 2016; Lin et al. 2017).

    Parameters have the names they have in torchvision's detection models: ``body.*`` and ``fpn.*``.

    Args:
        body: One of torchvision's ResNets; its classifier is dropped.
        architecture: Its name in torchvision, which identifies its pretrained weights.
        first_stage: The first of the four stages that feed the pyramid: 1 for P2-P5, 2 for P3-P5.
        extra: Coarser levels on top: ``"pool"`` (P6, every second element of P5, for proposals only) or ``"p6p7"`` (two
            strided convolutions, as in FCOS).
        out_channels: Channels of the pyramid.
        trainable_layers: How many of stem, stage 1, ..., stage 4 learn, counted from stage 4: 5 for all, 0 for none.
            Frozen ones also keep their BatchNorm statistics.

    Attributes:
        out_channels: Channels of every level.
        strides: Stride of every level that `forward` returns, finest first.
        fine_channels: Channels of its fine map: 0, there is none.
        pooled_strides: Strides of the levels that regions are pooled from; they come first in ``strides``.

    Raises:
        SettingError: ``extra`` or ``first_stage`` is none of these.
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
        if extra not in EXTRA:
            raise SettingError("extra", extra, "is not a kind of extra levels", f"Choose {' or '.join(EXTRA)}")
        if not 1 <= first_stage <= 4:
            raise SettingError("first_stage", first_stage, "is out of range", "Give 1 to 4")
        self.architecture = architecture
        self.frozen = FREEZING_ORDER[: 5 - trainable_layers]
        width = body.inplanes // 8  # channels of the first stage
        used = range(first_stage, 5)
        self.body = IntermediateLayerGetter(body, {STAGES[stage - 1]: str(i) for i, stage in enumerate(used)})
        blocks: nn.Module = LastLevelMaxPool() if extra == "pool" else LastLevelP6P7(out_channels, out_channels)
        self.fpn = FeaturePyramidNetwork([width * 2 ** (stage - 1) for stage in used], out_channels, blocks)
        self.out_channels = out_channels
        self.fine_channels = 0
        self.pooled_strides = [2 ** (stage + 1) for stage in used]
        self.strides = self.pooled_strides + ([64] if extra == "pool" else [64, 128])
        # Constants, not part of a checkpoint.
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)
        for layer in self._frozen_layers():
            layer.requires_grad_(False)

    def _frozen_layers(self) -> list[nn.Module]:
        # bn1 normalises the stem.
        names = (*self.frozen, "bn1") if self.frozen else ()
        return [layer for name, layer in self.body.named_children() if name in names]

    def train(self, mode: bool = True) -> ResNetFPN:
        """Switch the mode; frozen layers stay in evaluation mode, so that their BatchNorm keeps its statistics."""
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


@settings_under("backbone")  # where its settings stand: Hydra builds the backbone first, so the model cannot add it
def resnet_fpn(
    name: str = "resnet101",
    pretrained: str = "none",
    norm: str | None = None,
    trainable_layers: int | None = None,
    first_stage: int = 1,
    extra: str = "pool",
    out_channels: int = 256,
) -> ResNetFPN:
    """Build a ResNet with a feature pyramid, with random weights; `conf/model` calls this for a model's ``backbone``.

    Args:
        name: One of `resnet_names`.
        pretrained: The weights that the whole detector is going to load (see `kemr_lightning.models.weights`). Nothing
            is loaded here. They only decide the defaults of ``norm`` and ``trainable_layers``, so that a model rebuilt
            from a checkpoint without loading pretrained weights still has the same layers.
        norm: See `norm_layer`. None: ``"frozen"`` with pretrained weights; ``"batch"`` without, because the features of
            a random ResNet explode if nothing normalises them.
        trainable_layers: See `ResNetFPN`. None: 3 (stem and first stage frozen) with pretrained weights, 5 without.
        first_stage: See `ResNetFPN`.
        extra: See `ResNetFPN`.
        out_channels: See `ResNetFPN`.

    Returns:
        The backbone.

    Raises:
        SettingError: A setting is wrong, or would freeze random weights. Its name begins with ``backbone.``.
    """
    if name not in resnet_names():
        raise SettingError("name", name, "is not a ResNet", f"Choose from {', '.join(resnet_names())}")
    learned = pretrained != "none"
    norm = norm or ("frozen" if learned else "batch")
    layers = trainable_layers if trainable_layers is not None else (3 if learned else 5)
    if not 0 <= layers <= 5:
        raise SettingError("trainable_layers", layers, "is out of range", "Give 0 to 5, or null")
    if not learned and norm == "frozen":
        raise SettingError("norm", norm, "would freeze random weights", "Use batch or group, or pretrained weights")
    if not learned and layers < 5:
        raise SettingError("trainable_layers", layers, "would freeze random weights", "Use null, or pretrained weights")
    # Torchvision trained its Mask R-CNN on COCO with nothing added to the variance, but not its FCOS, whose pyramid
    # goes up to P7.
    layer = norm_layer(norm, 0.0 if pretrained == "coco" and norm == "frozen" and extra == "pool" else 1e-5)
    body: resnet.ResNet = models.get_model_builder(name)(weights=None, norm_layer=layer)
    return ResNetFPN(body, name, first_stage, extra, out_channels, layers)
