"""BlendMask (Chen et al. 2020) on torchvision's FCOS: boxes from points, masks from bases and attention."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.ops import clip_boxes_to_image

from kemr_lightning.core.errors import SettingError, settings_under
from kemr_lightning.core.instances import Detections, Instances
from kemr_lightning.models.backbone import check_fine_channels
from kemr_lightning.models.bases import BasisDecoder, SemanticHead, semantic_loss
from kemr_lightning.models.blender import Blender
from kemr_lightning.models.fcos_head import AttentionFCOSHead, HeadOutputs
from kemr_lightning.models.mask_branch import outlined_matches
from kemr_lightning.models.settings import FlatSettings
from kemr_lightning.models.suppression import Suppression
from kemr_lightning.models.transform import BatchTransform
from kemr_lightning.models.weights import load_pretrained


class BlendMask(nn.Module):
    """A one-stage detector with masks. A `kemr_lightning.core.contracts.Detector`.

    Torchvision's FCOS makes the anchors, assigns targets and computes the box losses; its weights fit under ``fcos.``.

    Args:
        fcos: Torchvision's FCOS, holding the backbone and an `AttentionFCOSHead`. Its own image transform is not used.
        decoder: Pyramid to bases.
        blender: Bases and attention to masks.
        semantic: Head of the auxiliary loss, or None to train without.
        strides: Stride of each level of the backbone.
        transform: Makes batches of images. Its divisor is a multiple of the coarsest stride, so that anchors lie where
            the features are.
        suppression: Chooses the detections.
        semantic_weight: Weight of the auxiliary loss.
        mask_weight: Weight of the mask loss.
        max_mask_positives: Positive locations per image that masks are trained on, a random choice; None for all.

    Raises:
        ValueError: The transform's divisor is not such a multiple.
    """

    kind = "blendmask"
    max_views = 1

    def __init__(
        self,
        fcos: FCOS,
        decoder: BasisDecoder,
        blender: Blender,
        semantic: SemanticHead | None,
        strides: Sequence[int],
        transform: BatchTransform,
        suppression: Suppression,
        semantic_weight: float = 0.3,
        mask_weight: float = 1.0,
        max_mask_positives: int | None = None,
    ) -> None:
        super().__init__()
        if transform.divisor % max(strides):
            raise ValueError(f"divisor {transform.divisor} is not a multiple of the coarsest stride {max(strides)}")
        self.fcos = fcos
        self.decoder = decoder
        self.blender = blender
        self.semantic = semantic
        self.strides = list(strides)
        self.transform = transform
        self.suppression = suppression
        self.semantic_weight = semantic_weight
        self.mask_weight = mask_weight
        self.max_mask_positives = max_mask_positives

    @property
    def backbone(self) -> nn.Module:
        """The backbone, which torchvision's FCOS holds."""
        backbone: nn.Module = self.fcos.backbone
        return backbone

    @property
    def head(self) -> AttentionFCOSHead:
        """The head, which torchvision's FCOS holds."""
        head: AttentionFCOSHead = self.fcos.head
        return head

    @property
    def max_detections(self) -> int:
        """Maximum number of detections per image."""
        return self.suppression.detections

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Losses in training mode, detections in evaluation mode.

        Args:
            images: ``(1, H_i, W_i)`` float in [0, 1].
            targets: Annotations per image, needed in training mode.

        Returns:
            Scalars ``loss_class``, ``loss_box``, ``loss_centerness``, ``loss_mask`` and ``loss_semantic``, or
            `Detections` per image in the coordinates of the images given, in descending order of score.

        Raises:
            ValueError: Training mode without targets.
        """
        if self.training and targets is None:
            raise ValueError("a detector in training mode needs targets")
        batch = self.transform(images)
        features: OrderedDict[str, Tensor] = self.backbone(batch.tensors)
        levels = [feature for name, feature in features.items() if name != "fine"]
        outputs: HeadOutputs = self.head(levels)
        bases: Tensor = self.decoder(levels, features.get("fine"))
        # All images of a batch are padded to one size, so they have the same anchors.
        anchors: Tensor = self.fcos.anchor_generator(batch, levels)[0]
        counts = [level.shape[-2] * level.shape[-1] for level in levels]
        if self.training and targets is not None:
            losses = self._losses(outputs, bases, anchors, counts, targets)
            if self.semantic is not None:
                auxiliary = semantic_loss(self.semantic(levels[0]), targets, self.strides[0])
                losses["loss_semantic"] = auxiliary * self.semantic_weight
            return losses
        return self._detect(outputs, bases, anchors, counts, batch.image_sizes)

    def detect_in_views(self, image: Tensor, views: int) -> Detections:  # noqa: ARG002
        """Not possible: this detector has no second stage to judge what other views found.

        Raises:
            ValueError: Always.
        """
        raise ValueError(f"{type(self).__name__} detects in one view of an image, not in {views}")

    def _losses(
        self,
        outputs: HeadOutputs,
        bases: Tensor,
        anchors: Tensor,
        counts: list[int],
        targets: Sequence[Instances],
    ) -> dict[str, Tensor]:
        expected = [{"boxes": t.boxes, "labels": t.labels - 1, "instances": t} for t in targets]
        found = self.fcos.compute_loss(expected, outputs.predictions, [anchors] * len(targets), counts)
        matches: Tensor = found["matches"]
        locations = self._mask_locations(matches, targets)
        location = torch.cat(locations)
        image = torch.cat([torch.full_like(where, index) for index, where in enumerate(locations)])
        own = [match[where] for match, where in zip(matches, locations, strict=True)]
        boxes = torch.cat([target.boxes[index] for target, index in zip(targets, own, strict=True)])
        centerness = self.head.centerness(anchors[location], boxes)
        attention = self.head.attend(outputs.towers, image, location)
        mask_loss = self.blender.loss(bases, targets, attention, own, centerness)
        return {
            "loss_class": found["classification"],
            "loss_box": found["bbox_regression"],
            "loss_centerness": found["bbox_ctrness"],
            "loss_mask": mask_loss * self.mask_weight,
        }

    def _mask_locations(self, matches: Tensor, targets: Sequence[Instances]) -> list[Tensor]:
        """The locations ``(K_i,)`` of each image that masks are trained on."""
        locations = []
        for match, target in zip(matches, targets, strict=True):
            where = torch.nonzero(match >= 0)[:, 0]
            where = where[outlined_matches(target, match[where])]
            if self.max_mask_positives is not None and len(where) > self.max_mask_positives:
                where = where[torch.randperm(len(where), device=where.device)[: self.max_mask_positives]]
            locations.append(where)
        return locations

    def _detect(
        self,
        outputs: HeadOutputs,
        bases: Tensor,
        anchors: Tensor,
        counts: list[int],
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[Detections]:
        selected = [self._select(outputs, index, anchors, counts, size) for index, size in enumerate(image_sizes)]
        image = torch.cat([torch.full_like(location, index) for index, (_, _, _, location) in enumerate(selected)])
        attention = self.head.attend(outputs.towers, image, torch.cat([location for _, _, _, location in selected]))
        grids, regions = self.blender.predict(bases, [boxes for boxes, _, _, _ in selected], attention)
        found = [
            Detections(boxes, scores, labels, grid, region)
            for (boxes, scores, labels, _), grid, region in zip(selected, grids, regions, strict=True)
        ]
        return [self.suppression.by_masks(each, size) for each, size in zip(found, image_sizes, strict=True)]

    def _select(
        self, outputs: HeadOutputs, index: int, anchors: Tensor, counts: list[int], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes, scores, labels (from 1) and locations of an image's detections.

        ``FCOS.postprocess_detections`` does the same, but does not return the location of each box, where its
        attention is predicted, and keeps boxes that lie outside the image.
        """
        predictions = outputs.predictions
        classes = predictions["cls_logits"].shape[-1]
        scores = (predictions["cls_logits"][index].sigmoid() * predictions["bbox_ctrness"][index].sigmoid()).sqrt()
        kept_scores, kept = [], []
        for start, level in zip(
            torch.tensor([0, *counts]).cumsum(0).tolist(), torch.split(scores, counts), strict=False
        ):
            flat = level.flatten()
            good = torch.nonzero(flat > self.suppression.score_threshold)[:, 0]
            best, order = flat[good].topk(min(self.fcos.topk_candidates, len(good)))
            kept_scores.append(best)
            kept.append(good[order] + start * classes)
        score, where = torch.cat(kept_scores), torch.cat(kept)
        location, label = torch.div(where, classes, rounding_mode="floor"), where % classes + 1
        boxes = self.head.box_coder.decode(predictions["bbox_regression"][index][location], anchors[location])
        boxes = clip_boxes_to_image(boxes, image_size)
        solid = torch.nonzero(((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1))[:, 0]
        boxes, score, label, location = boxes[solid], score[solid], label[solid], location[solid]
        chosen = self.suppression.by_boxes(boxes, score, label)
        return boxes[chosen], score[chosen], label[chosen], location[chosen]


@dataclass(frozen=True)
class FCOSSettings:
    """FCOS and its head. Fields of this and the following classes are named as the settings of `conf/model`.

    Attributes:
        convs: See `AttentionFCOSHead`.
        groups: Groups of every GroupNorm, in the decoder and the auxiliary head too.
        anchor_sizes: One per level, in pixels; None for the strides. A location is responsible for boxes whose
            farthest side is 4 to 8 sizes away (from 0 at the first level, without limit at the last), regresses in
            units of the size, and is positive within ``centre_radius`` sizes of a box's centre.
        centre_radius: See ``anchor_sizes``.
        bases: Bases, and attention maps per instance.
        attention_size: Cells along a side of an attention map.
        candidates: Maximum number of candidates per level before suppression.
    """

    convs: int = 4
    groups: int = 32
    anchor_sizes: Sequence[float] | None = None
    centre_radius: float = 1.5
    bases: int = 4
    attention_size: int = 14
    candidates: int = 1000


@dataclass(frozen=True)
class BlendSettings:
    """Masks and losses.

    Attributes:
        mask_size: Cells along a side of the masks.
        mask_growth: See ``growth`` of `Blender`.
        mask_margin: See ``margin`` of `Blender`.
        binary_targets: See `Blender`.
        mask_weight: Weight of the mask loss.
        max_mask_positives: See `BlendMask`.
        semantic_weight: Weight of the auxiliary loss; 0 trains without it.
        semantic_width: See ``width`` of `SemanticHead`.
    """

    mask_size: int = 56
    mask_growth: float = 0.0
    mask_margin: float = 0.0
    binary_targets: bool = False
    mask_weight: float = 1.0
    max_mask_positives: int | None = None
    semantic_weight: float = 0.3
    semantic_width: int = 128


@dataclass(frozen=True)
class DecoderSettings:
    """Settings under ``decoder``. See `BasisDecoder`; ``groups`` is None for those of the head."""

    width: int = 128
    convs: int = 3
    groups: int | None = None
    fine_channels: int = 0
    fine_width: int | None = None


def blendmask(
    num_classes: int,
    backbone: nn.Module,
    weights: str = "none",
    decoder: Mapping[str, Any] | None = None,
    mean: float = 0.5,
    std: float = 0.25,
    **settings: Any,
) -> BlendMask:
    """Build BlendMask on a backbone; `conf/model` calls this.

    Args:
        num_classes: Foreground classes.
        backbone: See `kemr_lightning.models.backbone`. All its levels detect; the finest three make the bases.
        weights: See `kemr_lightning.models.weights.load_pretrained`.
        decoder: The fields of `DecoderSettings`.
        mean: Intensity mean, in [0, 1].
        std: Intensity standard deviation.
        settings: The fields of `FCOSSettings`, `BlendSettings` and `Suppression`. A score is the root of class
            probability times centerness.

    Returns:
        The detector.

    Raises:
        SettingError: A setting is unknown or wrong, or the weights do not exist or do not fit.
        UserError: The weights cannot be downloaded or read.
    """
    flat = FlatSettings(settings)
    head, masks = flat.take(FCOSSettings), flat.take(BlendSettings)
    suppression = flat.take(Suppression, nms_threshold=0.6)
    flat.refuse_rest()
    channels = int(backbone.out_channels)  # type: ignore[arg-type]
    strides = [int(stride) for stride in backbone.strides]  # type: ignore[union-attr]
    check_fine_channels(backbone, (decoder or {}).get("fine_channels", 0), "decoder.fine_channels")
    fcos = _fcos(backbone, channels, strides, num_classes, head, suppression)
    with settings_under("decoder"):
        bases = _decoder(channels, strides, head, decoder)
    detector = BlendMask(
        fcos,
        bases,
        Blender(strides[0] // 2, masks.mask_size, masks.mask_growth, masks.mask_margin, masks.binary_targets),
        SemanticHead(channels, num_classes, masks.semantic_width, head.groups) if masks.semantic_weight else None,
        strides,
        BatchTransform(mean, std, max(32, *strides)),
        suppression,
        masks.semantic_weight,
        masks.mask_weight,
        masks.max_mask_positives,
    )
    load_pretrained(detector, weights)
    return detector


def _fcos(
    backbone: nn.Module,
    channels: int,
    strides: Sequence[int],
    num_classes: int,
    head: FCOSSettings,
    suppression: Suppression,
) -> FCOS:
    """Torchvision's FCOS with a head that predicts attention."""
    sizes = [float(size) for size in (strides if head.anchor_sizes is None else head.anchor_sizes)]
    if len(sizes) != len(strides):
        raise SettingError("anchor_sizes", sizes, "is not one size per level", f"Give {len(strides)} sizes")
    return FCOS(
        backbone,
        num_classes,
        anchor_generator=AnchorGenerator(tuple((size,) for size in sizes), ((1.0,),) * len(sizes)),
        head=AttentionFCOSHead(channels, num_classes, head.convs, head.groups, head.bases, head.attention_size),
        center_sampling_radius=head.centre_radius,
        score_thresh=suppression.score_threshold,
        nms_thresh=suppression.nms_threshold,
        detections_per_img=suppression.detections,
        topk_candidates=head.candidates,
    )


def _decoder(
    channels: int, strides: Sequence[int], head: FCOSSettings, given: Mapping[str, Any] | None
) -> BasisDecoder:
    """The decoder of the finest three levels."""
    flat = FlatSettings(given)
    settings = flat.take(DecoderSettings)
    flat.refuse_rest()
    return BasisDecoder(
        channels,
        min(3, len(strides)),
        settings.width,
        settings.convs,
        head.bases,
        head.groups if settings.groups is None else settings.groups,
        settings.fine_channels,
        settings.fine_width,
    )
