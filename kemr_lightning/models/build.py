"""Assemble whole detectors from their parts; `conf/model` calls these."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead

from kemr_lightning.models.box_head import BoxStage, ConvBoxHead
from kemr_lightning.models.cascade import SINGLE_STAGE, VARIANTS, CascadeHeads
from kemr_lightning.models.detector import TwoStageDetector
from kemr_lightning.models.mask_branch import MaskBranch
from kemr_lightning.models.mask_head import MaskHead
from kemr_lightning.models.pooler import AlignedRoIPooler
from kemr_lightning.models.weights import load_pretrained

CASCADE_IOU = (0.5, 0.6, 0.7)
CASCADE_BOX_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


def region_proposals(
    channels: int,
    anchor_sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[float],
    samples: int = 256,
    pre_nms: tuple[int, int] = (2000, 1000),
    post_nms: tuple[int, int] = (2000, 1000),
    nms_threshold: float = 0.7,
) -> RegionProposalNetwork:
    """Torchvision's region proposal network.

    Args:
        channels: Channels of the pyramid.
        anchor_sizes: Anchor sides in pixels (square root of the area), one list per level.
        aspect_ratios: Height over width.
        samples: Anchors per image that the losses are computed on, half of them positive at most.
        pre_nms: Proposals per level kept before suppression, in training and evaluation.
        post_nms: Proposals per image kept after it.
        nms_threshold: Box IoU of the suppression.

    Returns:
        The network.
    """
    anchors = AnchorGenerator(
        tuple(tuple(sizes) for sizes in anchor_sizes), tuple(tuple(aspect_ratios) for _ in anchor_sizes)
    )
    head = RPNHead(channels, anchors.num_anchors_per_location()[0])
    before = {"training": pre_nms[0], "testing": pre_nms[1]}
    after = {"training": post_nms[0], "testing": post_nms[1]}
    return RegionProposalNetwork(anchors, head, 0.7, 0.3, samples, 0.5, before, after, nms_threshold)


def region_heads(
    channels: int,
    strides: Sequence[int],
    num_classes: int,
    variant: str | None = None,
    iou_thresholds: Sequence[float] = CASCADE_IOU,
    box_weights: Sequence[Sequence[float]] = CASCADE_BOX_WEIGHTS,
    class_agnostic: bool = True,
    box_size: int = 7,
    box_convs: int = 0,
    box_width: int = 1024,
    smooth_l1_beta: float | None = None,
    mask_size: int = 28,
    mask_width: int = 256,
    mask_convs: int = 4,
    mask_growth: float = 0.0,
    mask_margin: float = 0.0,
    mask_weight: float = 1.0,
    max_mask_positives: int | None = None,
    binary_targets: bool = False,
    fine_channels: int = 0,
    fine_stride: int = 2,
    fine_width: int | None = None,
    canonical_size: float = 224.0,
    canonical_stride: int = 16,
    sampling_ratio: int = 2,
    samples: int = 512,
    positive_fraction: float = 0.25,
    score_threshold: float = 0.05,
    nms_threshold: float = 0.5,
    detections: int = 100,
    nms: str = "box",
    loose_threshold: float = 0.85,
) -> CascadeHeads:
    """The heads of Mask R-CNN (``variant=None``: one stage) or Cascade Mask R-CNN (a name from `VARIANTS`).

    Args:
        channels: Channels of the pyramid.
        strides: Strides of the levels that regions are pooled from.
        num_classes: Foreground classes.
        variant: See above.
        iou_thresholds: Positive threshold of each stage; the first alone without a cascade.
        box_weights: Box coding weights of each stage.
        class_agnostic: One set of box deltas for all classes (always so in the cascade of the paper).
        box_size: Cells along a side of the pooled grid of the box heads.
        box_convs: Convolutions of a box head.
        box_width: Units of a box head's two layers.
        smooth_l1_beta: See `BoxStage`; None for the variant's own.
        mask_size: Cells along a side of the predicted masks (even).
        mask_width: Channels of a mask head.
        mask_convs: Convolutions of a mask head.
        mask_growth: See `MaskBranch`.
        mask_margin: See `MaskBranch`.
        mask_weight: Weight of the mask loss.
        max_mask_positives: See `MaskBranch`.
        binary_targets: See `MaskBranch`.
        fine_channels: Channels of the backbone's ``"fine"`` map for the mask heads; 0 to do without.
        fine_stride: Its stride.
        fine_width: See `MaskHead`.
        canonical_size: See `AlignedRoIPooler`.
        canonical_stride: See `AlignedRoIPooler`.
        sampling_ratio: See `AlignedRoIPooler`.
        samples: See `CascadeHeads`.
        positive_fraction: See `CascadeHeads`.
        score_threshold: See `CascadeHeads`.
        nms_threshold: See `CascadeHeads`.
        detections: See `CascadeHeads`.
        nms: See `CascadeHeads`.
        loose_threshold: See `CascadeHeads`.

    Returns:
        The heads.
    """
    if variant is not None and variant not in VARIANTS:
        raise ValueError(f"unknown cascade variant {variant!r}; choose from {sorted(VARIANTS)}")
    chosen = SINGLE_STAGE if variant is None else VARIANTS[variant]
    count = 1 if variant is None else len(iou_thresholds)
    stages = [
        BoxStage(
            ConvBoxHead(channels, box_size, box_convs, box_width),
            num_classes,
            iou_thresholds[index],
            box_weights[index],
            class_agnostic,
            chosen.smooth_l1_beta if smooth_l1_beta is None else smooth_l1_beta,
        )
        for index in range(count)
    ]
    heads = count if chosen.mask_per_stage else 1

    def pooler(size: int) -> AlignedRoIPooler:
        return AlignedRoIPooler(size, strides, sampling_ratio, canonical_size, canonical_stride)

    branch = MaskBranch(
        [MaskHead(channels, num_classes, mask_width, mask_convs, fine_channels, fine_width) for _ in range(heads)],
        pooler(mask_size // 2),
        AlignedRoIPooler(mask_size, [fine_stride], sampling_ratio=1) if fine_channels else None,
        mask_growth,
        mask_margin,
        binary_targets,
        max_mask_positives,
        [mask_weight] * heads,
    )
    return CascadeHeads(
        stages,
        pooler(box_size),
        branch,
        chosen,
        samples,
        positive_fraction,
        score_threshold,
        nms_threshold,
        detections,
        nms,
        loose_threshold,
    )


def two_stage(
    num_classes: int,
    backbone: nn.Module,
    anchor_sizes: Sequence[Sequence[float]],
    aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
    proposals: dict[str, object] | None = None,
    heads: dict[str, object] | None = None,
    mean: float = 0.5,
    std: float = 0.25,
    weights: str = "none",
) -> TwoStageDetector:
    """Mask R-CNN or Cascade Mask R-CNN on a backbone.

    Args:
        num_classes: Foreground classes.
        backbone: See `kemr_lightning.models.backbone`.
        anchor_sizes: See `region_proposals`; one list per level of the backbone.
        aspect_ratios: See `region_proposals`.
        proposals: Further arguments of `region_proposals`.
        heads: Further arguments of `region_heads`.
        mean: Intensity mean, in [0, 1].
        std: Intensity standard deviation.
        weights: See `kemr_lightning.models.weights.load_pretrained`.

    Returns:
        The detector.

    Raises:
        UserError: The weights cannot be had or do not fit.
    """
    channels = int(backbone.out_channels)  # type: ignore[arg-type]
    strides = list(backbone.strides)  # type: ignore[arg-type]
    rpn = region_proposals(channels, anchor_sizes, aspect_ratios, **(proposals or {}))  # type: ignore[arg-type]
    # The coarsest level of a ResNet pyramid only proposes (Lin et al. 2017); `pooled_strides` says which ones are
    # pooled.
    pooled = list(getattr(backbone, "pooled_strides", strides))
    region = region_heads(channels, pooled, num_classes, **(heads or {}))  # type: ignore[arg-type]
    # Padded sizes are multiples of the coarsest stride: torchvision's anchors divide the padded size by the level's.
    detector = TwoStageDetector(backbone, rpn, region, mean, std, max(32, *strides))
    load_pretrained(detector, weights)
    return detector
