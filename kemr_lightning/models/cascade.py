"""Region heads: the box cascade of Cascade R-CNN with its mask branch; Mask R-CNN is a cascade of one stage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops import box_iou, clip_boxes_to_image

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Detections, Instances
from kemr_lightning.models.box_head import BoxStage
from kemr_lightning.models.ignored import on_ignored
from kemr_lightning.models.mask_branch import MaskBranch
from kemr_lightning.models.pooler import AlignedRoIPooler
from kemr_lightning.models.suppression import Suppression


@dataclass(frozen=True)
class CascadeVariant:
    """What differs between the two published implementations of Cascade Mask R-CNN.

    Attributes:
        resample: Whether boxes are sampled anew at every stage, with the ground truth appended each time
            (mmdetection). Otherwise they are sampled once, with the ground truth appended once, and only relabelled
            at later stages (detectron2).
        loss_weights: Weight of each stage's losses.
        share_gradient: Whether each of n stages sends 1/n of its gradient back into the pooled box features.
        average_logits: Whether scores are the softmax of the stages' mean logits; otherwise they are the mean of the
            stages' softmaxes.
        mask_per_stage: Whether each stage trains a mask head of its own on its own positives, and masks are averaged.
            Otherwise one mask head is trained on the first stage's positives.
        smooth_l1_beta: See `BoxStage`; 0 is L1.
    """

    resample: bool
    loss_weights: tuple[float, ...]
    share_gradient: bool
    average_logits: bool
    mask_per_stage: bool
    smooth_l1_beta: float


VARIANTS = {
    "mmdetection": CascadeVariant(True, (1.0, 0.5, 0.25), False, True, True, 1.0),
    "detectron2": CascadeVariant(False, (1.0, 1.0, 1.0), True, False, False, 0.0),
}
SINGLE_STAGE = CascadeVariant(True, (1.0,), False, True, True, 1.0)
"""Mask R-CNN."""


def variant_of(name: str | None) -> CascadeVariant:
    """The variant of a name in `VARIANTS`; `SINGLE_STAGE` for None.

    Raises:
        SettingError: There is no variant of that name.
    """
    if name is None:
        return SINGLE_STAGE
    if name not in VARIANTS:
        raise SettingError("variant", name, "is not a variant of the cascade", f"Choose {' or '.join(VARIANTS)}")
    return VARIANTS[name]


class _ScaleGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(context: torch.autograd.function.FunctionCtx, values: Tensor, factor: float) -> Tensor:
        context.factor = factor  # type: ignore[attr-defined]
        return values.clone()

    @staticmethod
    def backward(context: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] * context.factor, None  # type: ignore[attr-defined]


@dataclass
class _Assigned:
    """Boxes of one image with their training targets.

    Attributes:
        boxes: ``(K, 4)``.
        labels: ``(K,)`` int64, 0 for background.
        matches: ``(K,)`` int64, index of each box's annotation; meaningless for background boxes.
        is_truth: ``(K,)`` bool, whether the box is an appended annotation.
    """

    boxes: Tensor
    labels: Tensor
    matches: Tensor
    is_truth: Tensor


class CascadeHeads(nn.Module):
    """Box stages in sequence, each on the boxes that the one before refined, and the mask branch.

    Args:
        stages: The box stages, in ascending order of IoU threshold.
        box_pooler: Pools the pyramid for the box heads.
        mask_branch: The mask heads: one per stage, or one in all, as the variant wants.
        variant: Which published implementation to follow.
        samples: Boxes per image that losses are computed on.
        positive_fraction: Maximum fraction of them that is positive.
        suppression: Chooses the detections.

    Raises:
        ValueError: The variant has too few loss weights for the stages, or wants another number of mask heads.
    """

    def __init__(
        self,
        stages: Sequence[BoxStage],
        box_pooler: AlignedRoIPooler,
        mask_branch: MaskBranch,
        variant: CascadeVariant,
        samples: int = 512,
        positive_fraction: float = 0.25,
        suppression: Suppression | None = None,
    ) -> None:
        super().__init__()
        if len(variant.loss_weights) < len(stages):
            raise ValueError(f"{len(stages)} stages but {len(variant.loss_weights)} loss weights")
        expected = len(stages) if variant.mask_per_stage else 1
        if len(mask_branch.heads) != expected:
            raise ValueError(f"this variant has {expected} mask heads, got {len(mask_branch.heads)}")
        self.stages = nn.ModuleList(stages)
        self.box_pooler = box_pooler
        self.mask_branch = mask_branch
        self.variant = variant
        self.sampler = BalancedPositiveNegativeSampler(samples, positive_fraction)
        self.suppression = suppression or Suppression()

    def forward(
        self,
        features: OrderedDict[str, Tensor],
        proposals: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        targets: Sequence[Instances] | None = None,
    ) -> dict[str, Tensor] | list[Detections]:
        """Losses with targets, detections without.

        Args:
            features: The backbone's maps.
            proposals: ``(P_i, 4)`` per image.
            image_sizes: ``(H, W)`` per image, before padding.
            targets: Annotations per image.

        Returns:
            In training a dict of scalar losses ``loss_stage{k}_{class,box,mask}`` (k from 1), else `Detections` per
            image.
        """
        if targets is not None:
            return self._losses(features, proposals, image_sizes, targets)
        return self._detect(features, proposals, image_sizes)

    # -- training ------------------------------------------------------------------------------------------------------

    def _losses(
        self,
        features: OrderedDict[str, Tensor],
        proposals: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
        targets: Sequence[Instances],
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = {}
        boxes = list(proposals)
        for index, stage in enumerate(self.stages):
            assert isinstance(stage, BoxStage)
            sampled = index == 0 or self.variant.resample
            assigned = [self._assign(stage, box, target, sampled) for box, target in zip(boxes, targets, strict=True)]
            logits, deltas = stage(self._pool_boxes(features, [each.boxes for each in assigned]))
            weight = self.variant.loss_weights[index]
            class_loss, box_loss = stage.losses(
                logits,
                deltas,
                torch.cat([each.labels for each in assigned]),
                torch.cat(
                    [self._box_targets(stage, each, target) for each, target in zip(assigned, targets, strict=True)]
                ),
            )
            losses[f"loss_stage{index + 1}_class"] = class_loss * weight
            losses[f"loss_stage{index + 1}_box"] = box_loss * weight
            if self.variant.mask_per_stage or index == 0:
                positive = [torch.nonzero(each.labels > 0)[:, 0] for each in assigned]
                losses[f"loss_stage{index + 1}_mask"] = weight * self.mask_branch.loss(
                    features,
                    [each.boxes[where] for each, where in zip(assigned, positive, strict=True)],
                    [each.matches[where] for each, where in zip(assigned, positive, strict=True)],
                    targets,
                    index if self.variant.mask_per_stage else 0,
                )
            if index + 1 < len(self.stages):
                counts = [len(each.boxes) for each in assigned]
                boxes = self._next_boxes(
                    stage, assigned, torch.split(logits, counts), torch.split(deltas, counts), image_sizes
                )
        return losses

    def _assign(self, stage: BoxStage, boxes: Tensor, target: Instances, sample: bool) -> _Assigned:
        """Label an image's boxes at the stage's IoU threshold; with ``sample``, append the ground truth and sample.

        Boxes on ignored regions are not sampled as background.
        """
        is_truth = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        if sample:
            boxes = torch.cat([boxes, target.boxes.to(boxes)])
            is_truth = torch.cat([is_truth, is_truth.new_ones(len(target))])
        labels = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        matches = torch.zeros_like(labels)
        if len(target) and len(boxes):
            # The IoU of two boxes without area is 0 / 0, which the matcher would take for a match.
            found = stage.matcher(box_iou(target.boxes, boxes).nan_to_num(0.0))
            positive = found >= 0
            matches[positive] = found[positive]
            labels[positive] = target.labels[found[positive]]
        if sample:
            kinds = (labels > 0).to(torch.int64)
            if target.ignored is not None:
                kinds[(labels == 0) & on_ignored(target, boxes)] = -1
            positives, negatives = self.sampler([kinds])
            keep = torch.nonzero(positives[0] | negatives[0])[:, 0]
            boxes, labels, matches, is_truth = boxes[keep], labels[keep], matches[keep], is_truth[keep]
        return _Assigned(boxes, labels, matches, is_truth)

    @staticmethod
    def _box_targets(stage: BoxStage, assigned: _Assigned, target: Instances) -> Tensor:
        if len(target) == 0:
            return torch.zeros_like(assigned.boxes)
        deltas: Tensor = stage.coder.encode_single(target.boxes[assigned.matches], assigned.boxes)
        return deltas

    def _next_boxes(
        self,
        stage: BoxStage,
        assigned: Sequence[_Assigned],
        logits: Sequence[Tensor],
        deltas: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[Tensor]:
        """The refined boxes that the next stage trains on: detached, clipped, without empty ones.

        Appended ground truth is removed too if the next stage appends it anew.
        """
        result = []
        for each, logit, delta, size in zip(assigned, logits, deltas, image_sizes, strict=True):
            boxes = clip_boxes_to_image(stage.refine(each.boxes, logit.detach(), delta.detach()), size)
            keep = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(dim=1)
            if self.variant.resample:
                keep &= ~each.is_truth
            result.append(boxes[keep])
        return result

    # -- evaluation ----------------------------------------------------------------------------------------------------

    def _detect(
        self,
        features: OrderedDict[str, Tensor],
        proposals: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[Detections]:
        boxes = list(proposals)
        counts = [len(box) for box in boxes]
        votes = []
        for stage in self.stages:
            assert isinstance(stage, BoxStage)
            logits, deltas = stage(self._pool_boxes(features, boxes))
            votes.append(logits if self.variant.average_logits else logits.softmax(dim=1))
            if stage is not self.stages[-1]:
                refined = torch.split(stage.refine(torch.cat(boxes), logits, deltas), counts)
                boxes = [clip_boxes_to_image(box, size) for box, size in zip(refined, image_sizes, strict=True)]
        scores = torch.stack(votes).mean(dim=0)
        if self.variant.average_logits:
            scores = scores.softmax(dim=1)
        last = self.stages[-1]
        assert isinstance(last, BoxStage)
        selected = [
            self._select(last, box, score, delta, size)
            for box, score, delta, size in zip(
                boxes, torch.split(scores, counts), torch.split(deltas, counts), image_sizes, strict=True
            )
        ]
        grids, regions, disagreement = self.mask_branch.predict(
            features, [box for box, _, _ in selected], [label for _, _, label in selected]
        )
        found = [
            Detections(box, score, label, grids[i], regions[i], None if disagreement is None else disagreement[i])
            for i, (box, score, label) in enumerate(selected)
        ]
        return [self.suppression.by_masks(each, size) for each, size in zip(found, image_sizes, strict=True)]

    def judge(
        self, features: OrderedDict[str, Tensor], boxes: Tensor, labels: Tensor, image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Classify and refine given boxes of one image with the last stage.

        Args:
            features: The backbone's maps of that image.
            boxes: ``(N, 4)``.
            labels: ``(N,)`` int64 from 1.
            image_size: ``(H, W)`` before padding.

        Returns:
            ``(N, classes + 1)`` logits and ``(N, 4)`` refined boxes, clipped to the image.
        """
        last = self.stages[-1]
        assert isinstance(last, BoxStage)
        logits, deltas = last(self._pool_boxes(features, [boxes]))
        refined: Tensor = last.coder.decode_single(last.deltas_of(deltas, labels), boxes)
        return logits, clip_boxes_to_image(refined, image_size)

    def _select(
        self, stage: BoxStage, boxes: Tensor, scores: Tensor, deltas: Tensor, image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Decode, threshold and suppress: boxes ``(D, 4)``, scores ``(D,)`` and labels ``(D,)`` of one image."""
        where, label = torch.nonzero(scores[:, 1:] > self.suppression.score_threshold, as_tuple=True)
        label = label + 1
        score = scores[where, label]
        decoded = stage.coder.decode_single(stage.deltas_of(deltas[where], label), boxes[where])
        decoded = clip_boxes_to_image(decoded, image_size)
        solid = torch.nonzero(((decoded[:, 2:] - decoded[:, :2]) > 0).all(dim=1))[:, 0]
        decoded, score, label = decoded[solid], score[solid], label[solid]
        kept = self.suppression.by_boxes(decoded, score, label)
        return decoded[kept], score[kept], label[kept]

    def _pool_boxes(self, features: OrderedDict[str, Tensor], boxes: Sequence[Tensor]) -> Tensor:
        levels = [feature for name, feature in features.items() if name != "fine"][: len(self.box_pooler.strides)]
        pooled: Tensor = self.box_pooler(levels, boxes)
        if self.training and self.variant.share_gradient:
            pooled = _ScaleGradient.apply(pooled, 1 / len(self.stages))
        return pooled
