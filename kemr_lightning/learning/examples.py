"""Examples: predicted masks beside the annotations they match."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kemr_lightning.core.instances import Patch
from kemr_lightning.learning.masked_images import MaskedImage
from kemr_lightning.metrics.records import record
from kemr_lightning.metrics.segmentation import greedy_pairs
from kemr_lightning.refinement.surroundings import Surroundings, Window, surroundings

MATCH_SCORE = 0.3
"""Predictions with a lower score are not learned from: most of them are not chromosomes."""

MATCH_IOU = 0.5
"""Minimum mask IoU of a prediction with the annotation it matches."""


@dataclass(frozen=True)
class Example:
    """One predicted instance and the annotation it matches.

    Attributes:
        crop: The instance and its surroundings.
        target: ``(h, w)`` float32, the annotated mask (0 or 1) on the crop.
        truth_area: Pixels of the whole annotated mask, including those outside the crop.
        case: Position of its image.
        index: Position among the image's predictions.
    """

    crop: Surroundings
    target: Tensor
    truth_area: int
    case: int
    index: int

    @property
    def initial(self) -> Tensor:
        """The initial mask on the patch's own window, ``(h, w)`` probabilities."""
        return self.crop.crop(self.crop.prob)

    def iou(self, prob: Tensor) -> float:
        """IoU of a mask with the whole annotation.

        Args:
            prob: ``(h, w)`` probabilities on the patch's own window.
        """
        mask = prob >= 0.5
        both = float((mask & (self.crop.crop(self.target) > 0.5)).sum())
        return both / max(float(mask.sum()) + self.truth_area - both, 1.0)


def examples_of(cases: Iterable[MaskedImage], margin: int) -> list[Example]:
    """Pair predictions with annotations (greedily by score, see `MATCH_SCORE` and `MATCH_IOU`) and cut both out.

    Args:
        cases: Images.
        margin: Pixels around each patch, >= 0.

    Returns:
        One example per matched prediction.
    """
    examples = []
    for number, case in enumerate(cases):
        if not case.initial.patches or not case.truth.patches:
            continue
        crops = surroundings(case.image, case.initial, margin)
        item = record(case.initial, case.truth, number + 1)
        for index, annotation in greedy_pairs(item, item.iou(masks=True), MATCH_SCORE, MATCH_IOU):
            patch = case.truth.patches[annotation]
            crop = crops[index]
            examples.append(Example(crop, on_window(patch, crop.window), patch.area(), number, index))
    return examples


def on_window(patch: Patch, window: Window) -> Tensor:
    """A patch on another window of the same image.

    Args:
        patch: The patch.
        window: ``(x0, y0, x1, y1)`` in whole pixels, x1 and y1 exclusive.

    Returns:
        ``(y1 - y0, x1 - x0)`` float32, 0 where the patch does not reach.
    """
    x0, y0, x1, y1 = window
    result = torch.zeros(y1 - y0, x1 - x0)
    left, top, right, bottom = patch.window
    a, b, c, d = max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)
    if a < c and b < d:
        result[b - y0 : d - y0, a - x0 : c - x0] = patch.values[b - top : d - top, a - left : c - left].float()
    return result


def folds(cases: Sequence[MaskedImage], count: int, seed: int) -> list[list[int]]:
    """Split images into folds; images of one group stay together.

    Args:
        cases: Images.
        count: Number of folds; there are fewer if there are fewer groups.
        seed: Seed of the order in which groups are dealt out.

    Returns:
        Positions of the images of each fold; every image is in exactly one.
    """
    groups = sorted({case.group for case in cases})
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist()
    fold_of = {groups[group]: place % count for place, group in enumerate(order)}
    result: list[list[int]] = [[] for _ in range(min(count, len(groups)))]
    for index, case in enumerate(cases):
        result[fold_of[case.group]].append(index)
    return result
