"""Small detectors and hand-made parts whose outputs are known."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.models.backbone import TinyBackbone
from kemr_lightning.models.box_head import BoxStage
from kemr_lightning.models.build import two_stage
from kemr_lightning.models.cascade import VARIANTS, CascadeHeads, CascadeVariant
from kemr_lightning.models.detector import TwoStageDetector
from kemr_lightning.models.mask_branch import MaskBranch
from kemr_lightning.models.suppression import Suppression

IOU = (0.5, 0.6, 0.7)
WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


def small_detector(variant: str | None = "mmdetection", num_classes: int = 1, **heads: object) -> TwoStageDetector:
    """A whole detector of a few thousand weights."""
    settings: dict[str, object] = {
        "variant": variant,
        "box_width": 16,
        "mask_width": 8,
        "mask_convs": 1,
        "canonical_size": 56,
        "canonical_stride": 4,
        "sampling_ratio": 1,
        "samples": 16,
    }
    return two_stage(
        num_classes,
        TinyBackbone((4, 8, 8), (1, 1), 8),
        [[16], [32]],
        (0.5, 1.0, 2.0),
        {"pre_nms": (20, 20), "post_nms": (20, 20)},
        settings | heads,
        mean=0.2,
        std=0.25,
    )


def rectangles(boxes: Sequence[Sequence[int]], size: tuple[int, int], labels: Sequence[int] | None = None) -> Instances:
    """Annotations that fill their boxes."""
    count = len(boxes)
    return Instances(
        size,
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.ones(count),
        torch.tensor(labels if labels is not None else [1] * count, dtype=torch.int64),
        [Patch(x0, y0, torch.ones(y1 - y0, x1 - x0, dtype=torch.bool)) for x0, y0, x1, y1 in boxes],
    )


def picture(target: Instances, ground: float = 0.2) -> Tensor:
    """``(1, H, W)``: textured objects on an even ground."""
    image = torch.full((1, *target.image_size), ground)
    generator = torch.Generator().manual_seed(3)
    for patch in target.patches or []:
        x0, y0, x1, y1 = patch.window
        image[0, y0:y1, x0:x1] = 0.6 + 0.4 * torch.rand(y1 - y0, x1 - x0, generator=generator)
    return image


class RecordingPooler(nn.Module):
    """Gives 2 channels of one cell: the mean of a feature map; remembers the boxes of each call."""

    def __init__(self, size: int = 1) -> None:
        super().__init__()
        self.strides = [4]
        self.size = size
        self.calls: list[list[Tensor]] = []

    def forward(self, features: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        self.calls.append(list(boxes))
        image = torch.cat([torch.full((len(box),), i) for i, box in enumerate(boxes)])
        means = features[0].mean(dim=(2, 3))[image]
        return means[:, :, None, None].expand(-1, -1, self.size, self.size)


class ConstantMask(nn.Module):
    """A mask head with the same logit everywhere, one per class."""

    def __init__(self, logits: Sequence[float]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(logits, dtype=torch.float32))

    def forward(self, pooled: Tensor, fine: Tensor | None = None) -> Tensor:
        return self.value[None, :, None, None].expand(len(pooled), -1, 28, 28)


class Flat(nn.Flatten):
    """The pooled cell itself as features."""

    out_features = 2


def constant_stage(
    index: int,
    logits: Sequence[float],
    deltas: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    threshold: float | None = None,
) -> BoxStage:
    """Stage ``index`` of the paper's cascade, giving the same logits and deltas for every box."""
    stage = BoxStage(Flat(), len(logits) - 1, IOU[index] if threshold is None else threshold, WEIGHTS[index])
    for layer, values in ((stage.class_logits, logits), (stage.deltas, deltas)):
        nn.init.zeros_(layer.weight)
        layer.bias.data = torch.tensor(values, dtype=torch.float32)
    return stage


def constant_heads(
    stages: Sequence[BoxStage],
    mask_logits: Sequence[Sequence[float]],
    variant: str | CascadeVariant = "mmdetection",
    samples: int = 512,
    positive_fraction: float = 0.25,
    **suppression: object,
) -> CascadeHeads:
    """Cascade heads of known outputs; ``box_pooler.calls`` holds the boxes that each stage saw."""
    branch = MaskBranch(
        [ConstantMask(logits) for logits in mask_logits],  # type: ignore[misc]
        RecordingPooler(14),  # type: ignore[arg-type]
        head_weights=[1.0] * len(mask_logits),
    )
    return CascadeHeads(
        stages,
        RecordingPooler(),  # type: ignore[arg-type]
        branch,
        VARIANTS[variant] if isinstance(variant, str) else variant,
        samples,
        positive_fraction,
        Suppression(**suppression),  # type: ignore[arg-type]
    )


def features_of(count: int = 1) -> OrderedDict[str, Tensor]:
    """One level of ones that gradients can be taken with respect to."""
    return OrderedDict({"0": torch.ones(count, 2, 16, 16, requires_grad=True)})
