"""The score from which a model's predictions count, chosen on validation images.

Scores of different models are not comparable: 0.5 of FCOS, whose scores are a geometric mean with centerness, is not
0.5 of a box head. Instance Accuracy never falls when the threshold does, since every further prediction can only find
more; so it cannot choose the threshold itself. The F1 score of what is found and what is predicted can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.metrics.segmentation import greedy_pairs, have_masks

CANDIDATES = np.arange(1, 100) / 100


@dataclass(frozen=True)
class Threshold:
    """A threshold and what it was chosen by.

    Attributes:
        score: In [0.01, 0.99].
        f1: F1 at it on the images it was chosen on, percent.
        images: Number of those.
    """

    score: float
    f1: float
    images: int


def best_threshold(records: Sequence[ImageRecord], iou: float = 0.5) -> Threshold | None:
    """The threshold with the highest F1 of found annotations and predictions, matched as Instance Accuracy does.

    Args:
        records: Of validation images, with predictions of every score.
        iou: Least IoU of a pair.

    Returns:
        The best of 0.01, 0.02 ... 0.99, of equal ones that nearest to 0.5; None where nothing is annotated.
    """
    scores, right, annotated = counted(records, iou)
    if not annotated:
        return None
    # A greedy pair depends on predictions of higher scores alone, so pairs of one matching serve all thresholds.
    found = (right[None] >= CANDIDATES[:, None]).sum(axis=1)
    predicted = (scores[None] >= CANDIDATES[:, None]).sum(axis=1)
    f1 = 2 * found / (annotated + predicted)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    chosen = best[np.abs(CANDIDATES[best] - 0.5).argmin()]
    return Threshold(float(CANDIDATES[chosen]), float(f1[chosen] * 100), len(records))


def counted(
    records: Sequence[ImageRecord], iou: float = 0.5
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], np.ndarray[tuple[int], np.dtype[np.float64]], int]:
    """Scores of all predictions, scores of those that are right, and the number of annotations."""
    masks = have_masks(records)
    scores = [p.score for item in records for p in item.predictions]
    right = [
        item.predictions[prediction].score
        for item in records
        if item.truth
        for prediction, _ in greedy_pairs(item, item.iou(masks), 0.0, iou)
    ]
    return np.array(scores), np.array(right), sum(len(item.truth) for item in records)


def precision_at(records: Sequence[ImageRecord], score: float, iou: float = 0.5) -> float:
    """Percent of the predictions from a score on that are right; NaN without predictions."""
    scores, right, _ = counted(records, iou)
    predicted = int((scores >= score).sum())
    return 100 * int((right >= score).sum()) / predicted if predicted else float("nan")
