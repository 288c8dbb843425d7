"""BlendMask (Chen et al. 2020) on torchvision's FCOS: boxes from points, masks from bases and attention."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.ops import batched_nms, clip_boxes_to_image

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Detections, Instances
from kemr_lightning.models.bases import BasisDecoder, SemanticHead, semantic_loss
from kemr_lightning.models.blender import Blender
from kemr_lightning.models.detector import batch_images
from kemr_lightning.models.fcos_head import AttentionFCOSHead, HeadOutputs
from kemr_lightning.models.mask_nms import mask_nms
from kemr_lightning.models.weights import load_pretrained

CANDIDATES = 2  # times the most detections: how many go into the suppression by masks


class BlendMask(nn.Module):
    """A one-stage detector with `TwoStageDetector`'s interface.

    torchvision's FCOS makes the anchors, assigns targets and computes the box losses; its weights fit under ``fcos.``.

    Args:
        fcos: torchvision's FCOS, holding the backbone and an `AttentionFCOSHead`. Its own image transform is not used.
        decoder: Pyramid to bases.
        blender: Bases and attention to masks.
        semantic: Head of the auxiliary loss, or None to train without.
        strides: Stride of each level of the backbone.
        semantic_weight: Weight of the auxiliary loss.
        mask_weight: Weight of the mask loss.
        max_mask_positives: Positive locations per image that masks are trained on (a random choice); None for all.
        mean: Intensity mean for standardising, in [0, 1].
        std: Intensity standard deviation.
        nms: What the IoU of the suppression is of: ``"box"``, or ``"mask"`` (see `mask_nms`), which keeps both of two
            objects that cross, whose boxes may be almost the same.
        loose_threshold: With ``nms="mask"``, box IoU above which the lower-scored detection is dropped before any mask
            is made, to bound the work.
        divisor: Padded sizes are multiples of it; a multiple of the coarsest stride, so that anchors sit where the
            features are.

    Raises:
        UserError: Unknown ``nms``.
        ValueError: A ``divisor`` that is not such a multiple.
    """

    def __init__(
        self,
        fcos: FCOS,
        decoder: BasisDecoder,
        blender: Blender,
        semantic: SemanticHead | None,
        strides: Sequence[int],
        semantic_weight: float = 0.3,
        mask_weight: float = 1.0,
        max_mask_positives: int | None = None,
        mean: float = 0.5,
        std: float = 0.25,
        nms: str = "box",
        loose_threshold: float = 0.85,
        divisor: int = 128,
    ) -> None:
        super().__init__()
        if nms not in ("box", "mask"):
            raise UserError(f"model.nms={nms} is not a kind of suppression. Choose box or mask")
        if divisor % max(strides):
            raise ValueError(f"divisor {divisor} is not a multiple of the coarsest stride {max(strides)}")
        self.fcos = fcos
        self.decoder = decoder
        self.blender = blender
        self.semantic = semantic
        self.strides = list(strides)
        self.semantic_weight = semantic_weight
        self.mask_weight = mask_weight
        self.max_mask_positives = max_mask_positives
        self.mean = mean
        self.std = std
        self.nms = nms
        self.loose_threshold = loose_threshold
        self.divisor = divisor

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
        """Most detections that an image can have."""
        return int(self.fcos.detections_per_img)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        """Losses in training mode, detections in evaluation mode.

        Args:
            images: ``(1, H_i, W_i)`` float in [0, 1].
            targets: Annotations per image, needed in training mode.

        Returns:
            Scalars ``loss_class``, ``loss_box``, ``loss_centerness``, ``loss_mask`` and ``loss_semantic``, or
            `Detections` per image in the coordinates of the images given, by falling score.

        Raises:
            ValueError: Training mode without targets.
        """
        if self.training and targets is None:
            raise ValueError("a detector in training mode needs targets")
        batch = batch_images(images, self.divisor, self.mean, self.std)
        features: OrderedDict[str, Tensor] = self.backbone(batch.tensors)
        levels = [feature for name, feature in features.items() if name != "fine"]
        outputs: HeadOutputs = self.head(levels)
        bases: Tensor = self.decoder(levels, features.get("fine"))
        # Batches are padded as one, so the anchors of all images are the same.
        anchors: Tensor = self.fcos.anchor_generator(batch, levels)[0]
        counts = [level.shape[-2] * level.shape[-1] for level in levels]
        if self.training and targets is not None:
            losses = self._losses(outputs, bases, anchors, counts, targets)
            if self.semantic is not None:
                auxiliary = semantic_loss(self.semantic(levels[0]), targets, self.strides[0])
                losses["loss_semantic"] = auxiliary * self.semantic_weight
            return losses
        return self._detect(outputs, bases, anchors, counts, batch.image_sizes)

    def _losses(
        self,
        outputs: HeadOutputs,
        bases: Tensor,
        anchors: Tensor,
        counts: list[int],
        targets: Sequence[Instances],
    ) -> dict[str, Tensor]:
        expected = [{"boxes": target.boxes, "labels": target.labels - 1} for target in targets]
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
            where = torch.nonzero(match >= 0)[:, 0] if target.patches is not None else match.new_zeros(0)
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
        if self.nms == "box":
            return found
        return [
            each.select(mask_nms(each, size, self.fcos.nms_thresh)[: self.max_detections])
            for each, size in zip(found, image_sizes, strict=True)
        ]

    def _select(
        self, outputs: HeadOutputs, index: int, anchors: Tensor, counts: list[int], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes, scores, labels (from 1) and locations of an image's detections.

        ``FCOS.postprocess_detections`` does the same but does not say which location a box came from, where its
        attention is; nor does it drop boxes that lie outside the image.
        """
        predictions = outputs.predictions
        classes = predictions["cls_logits"].shape[-1]
        scores = (predictions["cls_logits"][index].sigmoid() * predictions["bbox_ctrness"][index].sigmoid()).sqrt()
        kept_scores, kept = [], []
        for start, level in zip(
            torch.tensor([0, *counts]).cumsum(0).tolist(), torch.split(scores, counts), strict=False
        ):
            flat = level.flatten()
            good = torch.nonzero(flat > self.fcos.score_thresh)[:, 0]
            best, order = flat[good].topk(min(self.fcos.topk_candidates, len(good)))
            kept_scores.append(best)
            kept.append(good[order] + start * classes)
        score, where = torch.cat(kept_scores), torch.cat(kept)
        location, label = torch.div(where, classes, rounding_mode="floor"), where % classes + 1
        boxes = self.head.box_coder.decode(predictions["bbox_regression"][index][location], anchors[location])
        boxes = clip_boxes_to_image(boxes, image_size)
        solid = torch.nonzero(((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1))[:, 0]
        boxes, score, label, location = boxes[solid], score[solid], label[solid], location[solid]
        boxwise = self.nms == "box"
        chosen = batched_nms(boxes, score, label, self.fcos.nms_thresh if boxwise else self.loose_threshold)
        chosen = chosen[: self.max_detections if boxwise else CANDIDATES * self.max_detections]
        return boxes[chosen], score[chosen], label[chosen], location[chosen]


def blendmask(
    num_classes: int,
    backbone: nn.Module,
    weights: str = "none",
    convs: int = 4,
    groups: int = 32,
    anchor_sizes: Sequence[float] | None = None,
    centre_radius: float = 1.5,
    bases: int = 4,
    attention_size: int = 14,
    mask_size: int = 56,
    mask_growth: float = 0.0,
    mask_margin: float = 0.0,
    mask_weight: float = 1.0,
    max_mask_positives: int | None = None,
    binary_targets: bool = False,
    decoder: Mapping[str, Any] | None = None,
    semantic_weight: float = 0.3,
    semantic_width: int = 128,
    score_threshold: float = 0.05,
    nms: str = "box",
    nms_threshold: float = 0.6,
    loose_threshold: float = 0.85,
    detections: int = 100,
    candidates: int = 1000,
    mean: float = 0.5,
    std: float = 0.25,
) -> BlendMask:
    """BlendMask on a backbone; `conf/model` calls this.

    Args:
        num_classes: Foreground classes.
        backbone: See `kemr_lightning.models.backbone`; all its levels detect, the finest three make the bases.
        weights: See `kemr_lightning.models.weights.load_pretrained`.
        convs: See `AttentionFCOSHead`.
        groups: Groups of every GroupNorm.
        anchor_sizes: One per level, in pixels; None for the strides. A location is responsible for boxes whose farthest
            side is 4 to 8 sizes away (the first level from 0, the last without end), regresses in units of the size and
            is positive within ``centre_radius`` sizes of a box's centre.
        centre_radius: See there.
        bases: Bases and attention maps.
        attention_size: Cells along a side of an attention map.
        mask_size: Cells along a side of the masks.
        mask_growth: See `Blender`.
        mask_margin: See `Blender`.
        mask_weight: See `BlendMask`.
        max_mask_positives: See `BlendMask`.
        binary_targets: See `Blender`.
        decoder: Further arguments of `BasisDecoder`.
        semantic_weight: Weight of the auxiliary loss; 0 trains without.
        semantic_width: See `SemanticHead`.
        score_threshold: Detections below it are dropped; a score is the root of class probability times centerness.
        nms: See `BlendMask`.
        nms_threshold: IoU above which the lower-scored of two detections of a class is dropped.
        loose_threshold: See `BlendMask`.
        detections: Most detections per image.
        candidates: Most detections per level before suppression.
        mean: Intensity mean, in [0, 1].
        std: Intensity standard deviation.

    Returns:
        The detector.

    Raises:
        UserError: The weights cannot be had or do not fit, or ``nms`` is unknown.
    """
    channels = int(backbone.out_channels)  # type: ignore[arg-type]
    strides = [int(stride) for stride in backbone.strides]  # type: ignore[union-attr]
    sizes = [float(size) for size in (strides if anchor_sizes is None else anchor_sizes)]
    if len(sizes) != len(strides):
        raise ValueError(f"one anchor size per level: {len(strides)} levels, anchor_sizes={sizes}")
    fcos = FCOS(
        backbone,
        num_classes,
        anchor_generator=AnchorGenerator(tuple((size,) for size in sizes), ((1.0,),) * len(sizes)),
        head=AttentionFCOSHead(channels, num_classes, convs, groups, bases, attention_size),
        center_sampling_radius=centre_radius,
        score_thresh=score_threshold,
        nms_thresh=nms_threshold,
        detections_per_img=detections,
        topk_candidates=candidates,
    )
    detector = BlendMask(
        fcos,
        BasisDecoder(channels, min(3, len(strides)), bases=bases, **({"groups": groups} | dict(decoder or {}))),
        Blender(strides[0] // 2, mask_size, mask_growth, mask_margin, binary_targets),
        SemanticHead(channels, num_classes, semantic_width, groups) if semantic_weight else None,
        strides,
        semantic_weight,
        mask_weight,
        max_mask_positives,
        mean,
        std,
        nms,
        loose_threshold,
        divisor=max(32, *strides),
    )
    load_pretrained(detector, weights)
    return detector
