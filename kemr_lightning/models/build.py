"""Assemble two-stage detectors from their parts; `conf/model` calls `two_stage`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RPNHead

from kemr_lightning.core.errors import SettingError, settings_under
from kemr_lightning.models.backbone import check_fine_channels
from kemr_lightning.models.box_head import BoxStage, ConvBoxHead
from kemr_lightning.models.cascade import CascadeHeads, CascadeVariant, variant_of
from kemr_lightning.models.detector import TwoStageDetector
from kemr_lightning.models.mask_branch import MaskBranch
from kemr_lightning.models.mask_head import MaskHead
from kemr_lightning.models.pooler import AlignedRoIPooler
from kemr_lightning.models.proposals import Proposals
from kemr_lightning.models.settings import FlatSettings
from kemr_lightning.models.suppression import Suppression
from kemr_lightning.models.transform import BatchTransform
from kemr_lightning.models.weights import load_pretrained

CASCADE_IOU = (0.5, 0.6, 0.7)
CASCADE_BOX_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


@dataclass(frozen=True)
class ProposalSettings:
    """Region proposals. Fields are named as the settings under ``proposals`` in `conf/model`.

    Attributes:
        samples: Anchors per image that the losses are computed on, at most half of them positive.
        pre_nms: Proposals per level kept before suppression, in training and in evaluation.
        post_nms: Proposals per image kept after suppression, in training and in evaluation.
        nms_threshold: Box IoU of the suppression.
    """

    samples: int = 256
    pre_nms: Sequence[int] = (2000, 1000)
    post_nms: Sequence[int] = (2000, 1000)
    nms_threshold: float = 0.7


@dataclass(frozen=True)
class StageSettings:
    """Box stages. Fields of this and the following classes are named as the settings under ``heads`` in `conf/model`.

    Attributes:
        variant: Name of a cascade in `VARIANTS`, or None for the single stage of Mask R-CNN.
        iou_thresholds: Positive threshold of each stage; a single stage uses the first alone.
        box_weights: Box coding weights of each stage.
        class_agnostic: Whether all classes share one set of box deltas (as in the paper's cascade).
        box_size: Cells along a side of the pooled grid.
        box_convs: Convolutions of a box head.
        box_width: Units of a box head's two fully connected layers.
        smooth_l1_beta: See `BoxStage`; None for the variant's own.
    """

    variant: str | None = None
    iou_thresholds: Sequence[float] = CASCADE_IOU
    box_weights: Sequence[Sequence[float]] = CASCADE_BOX_WEIGHTS
    class_agnostic: bool = True
    box_size: int = 7
    box_convs: int = 0
    box_width: int = 1024
    smooth_l1_beta: float | None = None


@dataclass(frozen=True)
class MaskBranchSettings:
    """The mask branch.

    Attributes:
        mask_size: Cells along a side of the predicted masks, an even number.
        mask_width: Channels of a mask head.
        mask_convs: Convolutions of a mask head.
        mask_growth: See ``growth`` of `MaskBranch`.
        mask_margin: See ``margin`` of `MaskBranch`.
        mask_weight: Weight of the mask loss.
        max_mask_positives: See ``max_positives`` of `MaskBranch`.
        binary_targets: See `MaskBranch`.
        fine_channels: Channels of the backbone's ``"fine"`` map, which the mask heads then use; 0 to do without.
        fine_stride: Stride of that map.
        fine_width: See `MaskHead`.
    """

    mask_size: int = 28
    mask_width: int = 256
    mask_convs: int = 4
    mask_growth: float = 0.0
    mask_margin: float = 0.0
    mask_weight: float = 1.0
    max_mask_positives: int | None = None
    binary_targets: bool = False
    fine_channels: int = 0
    fine_stride: int = 2
    fine_width: int | None = None


@dataclass(frozen=True)
class PoolSettings:
    """Pooling from the pyramid, for boxes and masks alike. See `AlignedRoIPooler`."""

    canonical_size: float = 224.0
    canonical_stride: int = 16
    sampling_ratio: int = 2

    def pooler(self, size: int, strides: Sequence[int]) -> AlignedRoIPooler:
        """A pooler of ``size x size`` cells from levels of the given strides."""
        return AlignedRoIPooler(size, strides, self.sampling_ratio, self.canonical_size, self.canonical_stride)


@dataclass(frozen=True)
class SamplingSettings:
    """Boxes that the heads' losses are computed on. See `CascadeHeads`."""

    samples: int = 512
    positive_fraction: float = 0.25


def region_proposals(
    channels: int,
    anchor_sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[float],
    proposals: Mapping[str, Any] | None = None,
) -> Proposals:
    """Build the region proposal network.

    Args:
        channels: Channels of the pyramid.
        anchor_sizes: Anchor sides in pixels (square root of the area), one list per level.
        aspect_ratios: Height over width.
        proposals: Settings by name, see `ProposalSettings`.

    Returns:
        The network.

    Raises:
        SettingError: A name is unknown.
    """
    flat = FlatSettings(proposals)
    settings = flat.take(ProposalSettings)
    flat.refuse_rest()
    anchors = AnchorGenerator(
        tuple(tuple(sizes) for sizes in anchor_sizes), tuple(tuple(aspect_ratios) for _ in anchor_sizes)
    )
    head = RPNHead(channels, anchors.num_anchors_per_location()[0])
    before = {"training": settings.pre_nms[0], "testing": settings.pre_nms[1]}
    after = {"training": settings.post_nms[0], "testing": settings.post_nms[1]}
    return Proposals(anchors, head, 0.7, 0.3, settings.samples, 0.5, before, after, settings.nms_threshold)


def region_heads(
    channels: int, strides: Sequence[int], num_classes: int, heads: Mapping[str, Any] | None = None
) -> CascadeHeads:
    """Build the heads of Mask R-CNN or Cascade Mask R-CNN.

    Args:
        channels: Channels of the pyramid.
        strides: Strides of the levels that regions are pooled from.
        num_classes: Foreground classes.
        heads: Settings by name: the fields of `StageSettings`, `MaskBranchSettings`, `PoolSettings`,
            `SamplingSettings` and `Suppression`.

    Returns:
        The heads.

    Raises:
        SettingError: A name is unknown, or there is no such variant or kind of suppression.
    """
    flat = FlatSettings(heads)
    boxes, masks, pool = flat.take(StageSettings), flat.take(MaskBranchSettings), flat.take(PoolSettings)
    sampling, suppression = flat.take(SamplingSettings), flat.take(Suppression)
    flat.refuse_rest()
    variant = variant_of(boxes.variant)
    stages = _stages(channels, num_classes, boxes, variant)
    count = len(stages) if variant.mask_per_stage else 1
    return CascadeHeads(
        stages,
        pool.pooler(boxes.box_size, strides),
        _mask_branch(channels, strides, num_classes, count, masks, pool),
        variant,
        sampling.samples,
        sampling.positive_fraction,
        suppression,
    )


def _stages(channels: int, num_classes: int, boxes: StageSettings, variant: CascadeVariant) -> list[BoxStage]:
    """The box stages: one without a cascade, else one per IoU threshold."""
    count = 1 if boxes.variant is None else len(boxes.iou_thresholds)
    return [
        BoxStage(
            ConvBoxHead(channels, boxes.box_size, boxes.box_convs, boxes.box_width),
            num_classes,
            boxes.iou_thresholds[index],
            boxes.box_weights[index],
            boxes.class_agnostic,
            variant.smooth_l1_beta if boxes.smooth_l1_beta is None else boxes.smooth_l1_beta,
        )
        for index in range(count)
    ]


def _mask_branch(
    channels: int, strides: Sequence[int], num_classes: int, count: int, masks: MaskBranchSettings, pool: PoolSettings
) -> MaskBranch:
    """The mask branch, with ``count`` heads."""
    return MaskBranch(
        [
            MaskHead(channels, num_classes, masks.mask_width, masks.mask_convs, masks.fine_channels, masks.fine_width)
            for _ in range(count)
        ],
        pool.pooler(masks.mask_size // 2, strides),
        AlignedRoIPooler(masks.mask_size, [masks.fine_stride], sampling_ratio=1) if masks.fine_channels else None,
        masks.mask_growth,
        masks.mask_margin,
        masks.binary_targets,
        masks.max_mask_positives,
        [masks.mask_weight] * count,
    )


def two_stage(
    num_classes: int,
    backbone: nn.Module,
    anchor_sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    proposals: Mapping[str, Any] | None = None,
    heads: Mapping[str, Any] | None = None,
    mean: float = 0.5,
    std: float = 0.25,
    weights: str = "none",
) -> TwoStageDetector:
    """Build Mask R-CNN or Cascade Mask R-CNN on a backbone.

    Args:
        num_classes: Foreground classes.
        backbone: See `kemr_lightning.models.backbone`.
        anchor_sizes: See `region_proposals`; one list per level of the backbone.
        aspect_ratios: See `region_proposals`.
        proposals: See `region_proposals`.
        heads: See `region_heads`.
        mean: Intensity mean, in [0, 1].
        std: Intensity standard deviation.
        weights: See `kemr_lightning.models.weights.load_pretrained`.

    Returns:
        The detector.

    Raises:
        SettingError: A setting is unknown or wrong, or the weights do not exist or do not fit.
        UserError: The weights cannot be downloaded or read.
    """
    channels = int(backbone.out_channels)  # type: ignore[arg-type]
    strides = list(backbone.strides)  # type: ignore[arg-type]
    if len(anchor_sizes) != len(strides):
        cure = f"Give {len(strides)} lists of sizes"
        raise SettingError("anchor_sizes", list(anchor_sizes), "is not one list per level of the backbone", cure)
    check_fine_channels(backbone, (heads or {}).get("fine_channels", 0), "heads.fine_channels")
    with settings_under("proposals"):
        rpn = region_proposals(channels, anchor_sizes, aspect_ratios, proposals)
    # The coarsest level of a ResNet's pyramid is for proposals only (Lin et al. 2017): `pooled_strides` leaves it out.
    pooled = list(getattr(backbone, "pooled_strides", strides))
    with settings_under("heads"):
        region = region_heads(channels, pooled, num_classes, heads)
    # Padded sizes are multiples of the coarsest stride: torchvision's anchors divide the padded size by the level's.
    detector = TwoStageDetector(backbone, rpn, region, BatchTransform(mean, std, max(32, *strides)))
    load_pretrained(detector, weights)
    return detector
