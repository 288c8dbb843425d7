"""Test-time augmentation: average what a detector finds in rotated and mirrored views of an image.

A chromosome has no upright orientation, so every view is as good as the image itself. Each view detects, and the
detections of all views are merged by suppression. Each view's last stage then judges the merged boxes; boxes and scores
are averaged. Finally each view predicts masks on the averaged boxes, and the masks are averaged. With suppression by
masks, boxes are merged loosely and the averaged masks decide, as in a single view.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchvision.ops import box_iou

from kemr_lightning.core.geometry import grow_boxes
from kemr_lightning.core.instances import Detections
from kemr_lightning.models.cascade import CascadeHeads

if TYPE_CHECKING:
    from kemr_lightning.models.detector import TwoStageDetector

Size = tuple[int, int]

SAME_OBJECT = 0.5
"""IoU at or above which boxes of two views are taken for the same object."""


@dataclass(frozen=True)
class View:
    """Counterclockwise quarter turns of an image, then possibly a left-right reflection.

    Attributes:
        turns: 0 to 3.
        mirrored: Whether the rotated image is reflected.
    """

    turns: int
    mirrored: bool

    def of_image(self, image: Tensor) -> Tensor:
        """``(..., H, W)`` as this view shows it."""
        turned = torch.rot90(image, self.turns, (-2, -1))
        return turned.flip(-1) if self.mirrored else turned

    def from_image(self, image: Tensor) -> Tensor:
        """Undo `of_image`."""
        image = image.flip(-1) if self.mirrored else image
        return torch.rot90(image, -self.turns, (-2, -1))

    def of_boxes(self, boxes: Tensor, size: Size) -> Tensor:
        """``(N, 4)`` boxes in an image of ``size`` (H, W), in this view's coordinates."""
        height, width = size
        for _ in range(self.turns):
            boxes = _turn(boxes, width)
            height, width = width, height
        return _mirror(boxes, width) if self.mirrored else boxes

    def from_boxes(self, boxes: Tensor, size: Size) -> Tensor:
        """Undo `of_boxes`; ``size`` is that of the image as it is."""
        height, width = size if self.turns % 2 == 0 else (size[1], size[0])
        boxes = _mirror(boxes, width) if self.mirrored else boxes
        for _ in range(-self.turns % 4):
            boxes = _turn(boxes, width)
            height, width = width, height
        return boxes


def _turn(boxes: Tensor, width: int) -> Tensor:
    """A quarter turn counterclockwise of an image that is ``width`` wide takes (x, y) to (y, width - x)."""
    x0, y0, x1, y1 = boxes.unbind(dim=1)
    return torch.stack([y0, width - x1, y1, width - x0], dim=1)


def _mirror(boxes: Tensor, width: int) -> Tensor:
    x0, y0, x1, y1 = boxes.unbind(dim=1)
    return torch.stack([width - x1, y0, width - x0, y1], dim=1)


VIEWS = (
    View(0, False),
    View(1, False),
    View(2, True),
    View(3, True),
    View(2, False),
    View(3, False),
    View(0, True),
    View(1, True),
)
"""All eight, in the order of use. In the first four, each side of an object faces each side of the image once."""


@dataclass
class _Seen:
    """What one view gave.

    Attributes:
        view: The view.
        features: The backbone's maps of it.
        size: Its ``(H, W)``.
        found: Its detections, in the coordinates of the image itself.
    """

    view: View
    features: OrderedDict[str, Tensor]
    size: Size
    found: Detections


def detect_in_views(detector: TwoStageDetector, image: Tensor, count: int) -> Detections:
    """Detect with the average of several views of an image.

    Args:
        detector: In evaluation mode.
        image: ``(1, H, W)`` float in [0, 1].
        count: How many of `VIEWS`, 2 to 8.

    Returns:
        Detections in the image's coordinates above the score threshold, in descending order of score. A score is the
        mean of two values: the last stages' averaged score of the merged box, and the mean score of the views' own
        detections of it, 0 for a view without one. The disagreement is taken over the mask heads of all views.
    """
    heads = detector.heads
    size = (int(image.shape[-2]), int(image.shape[-1]))
    seen = [_look(detector, image, view) for view in VIEWS[:count]]
    boxes = torch.cat([each.found.boxes for each in seen])
    scores = torch.cat([each.found.scores for each in seen])
    labels = torch.cat([each.found.labels for each in seen])
    kept = heads.suppression.by_boxes(boxes, scores, labels)
    boxes, labels = boxes[kept], labels[kept]
    votes = torch.stack([_vote(each.found, boxes, labels) for each in seen]).mean(dim=0)
    logits, refined = [], []
    for each in seen:
        opinion, moved = heads.judge(each.features, each.view.of_boxes(boxes, size), labels, each.size)
        logits.append(opinion)
        refined.append(each.view.from_boxes(moved, size))
    boxes = torch.stack(refined).mean(dim=0)
    judged = torch.stack(logits).mean(dim=0).softmax(dim=1)[torch.arange(len(labels), device=labels.device), labels]
    scores = (judged + votes) / 2
    masks = torch.cat([_masks(heads, each, boxes, labels, size) for each in seen])
    mean = masks.mean(dim=0)
    spread = (masks - mean).square().mean(dim=0).sqrt().mean(dim=(1, 2))
    branch = heads.mask_branch
    regions = grow_boxes(boxes, branch.growth, branch.margin)
    found = Detections(boxes, scores, labels, mean, regions, spread).select(scores.argsort(descending=True))
    # A detection of one view only may have fallen below the threshold.
    above = torch.nonzero(found.scores > heads.suppression.score_threshold)[:, 0]
    return heads.suppression.by_masks(found.select(above), size)


def _look(detector: TwoStageDetector, image: Tensor, view: View) -> _Seen:
    size = (int(image.shape[-2]), int(image.shape[-1]))
    batch = detector.transform([view.of_image(image)])
    features: OrderedDict[str, Tensor] = detector.backbone(batch.tensors)
    found = detector.detect(features, batch)[0]
    found.boxes = view.from_boxes(found.boxes, size)
    return _Seen(view, features, batch.image_sizes[0], found)


def _vote(found: Detections, boxes: Tensor, labels: Tensor) -> Tensor:
    """``(N,)`` the score of a view's own detection of each box, 0 where it has none."""
    if len(found.boxes) == 0 or len(boxes) == 0:
        return boxes.new_zeros(len(boxes))
    overlap = box_iou(boxes, found.boxes) * (labels[:, None] == found.labels[None])
    best = overlap.max(dim=1)
    return torch.where(best.values >= SAME_OBJECT, found.scores[best.indices], 0.0)


def _masks(heads: CascadeHeads, seen: _Seen, boxes: Tensor, labels: Tensor, size: Size) -> Tensor:
    """``(heads, N, M, M)`` probabilities of every mask head on boxes, rotated back to the image's own orientation."""
    turned: Sequence[Tensor] = [seen.view.of_boxes(boxes, size)]
    return seen.view.from_image(heads.mask_branch.probabilities(seen.features, turned, [labels])[0])
