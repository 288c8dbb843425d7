"""The figures of each system, its own score threshold, and intervals of its differences to the baselines.

Scores of different models are not comparable: 0.5 of FCOS, whose scores are a geometric mean with centerness, is not
0.5 of a box head. Instance Accuracy never falls when the threshold does, since further predictions can only find more;
so it cannot choose the threshold itself. The F1 score of found annotations and predictions can, and does so on
validation images.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kemr_lightning.comparison.settings import CompareSettings
from kemr_lightning.comparison.systems import System
from kemr_lightning.metrics.bootstrap import Difference, Statistic, Weights, paired_bootstrap, statistic
from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.metrics.segmentation import HEADLINE, greedy_pairs, have_masks, headline, instance_accuracy

OWN = "IA*"
"""Instance Accuracy at the system's own threshold."""
ALL_FIGURES = (*HEADLINE, OWN)
CANDIDATES = np.arange(1, 100) / 100


@dataclass(frozen=True)
class Threshold:
    """A score threshold and what it was chosen by.

    Attributes:
        score: In [0.01, 0.99].
        f1: F1 at it on the images it was chosen on, percent.
        images: Number of those images.
    """

    score: float
    f1: float
    images: int


@dataclass(frozen=True)
class Score:
    """A row's figures.

    Attributes:
        system: The row.
        figures: Those of `ALL_FIGURES` that exist, in percent.
        threshold: The system's own threshold, for IA*; None where it could not be chosen.
        precision: Percent of the predictions at or above that threshold that are right; NaN without it.
        differences: Name of a baseline -> figure -> this row minus the baseline.
    """

    system: System
    figures: Mapping[str, float]
    threshold: Threshold | None = None
    precision: float = float("nan")
    differences: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)


def best_threshold(records: Sequence[ImageRecord], iou: float = 0.5) -> Threshold | None:
    """The threshold with the highest F1 of found annotations and predictions, matched as Instance Accuracy does.

    Args:
        records: Validation images, with predictions of every score.
        iou: Minimum IoU of a pair.

    Returns:
        The best of 0.01, 0.02 ... 0.99, among equals the one nearest to 0.5; None where nothing is annotated.
    """
    scores, right, annotated = _matched_scores(records, iou)
    if not annotated:
        return None
    # A greedy pair depends on predictions of higher scores alone, so pairs of one matching serve all thresholds.
    found = (right[None] >= CANDIDATES[:, None]).sum(axis=1)
    predicted = (scores[None] >= CANDIDATES[:, None]).sum(axis=1)
    f1 = 2 * found / (annotated + predicted)
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    chosen = best[np.abs(CANDIDATES[best] - 0.5).argmin()]
    return Threshold(float(CANDIDATES[chosen]), float(f1[chosen] * 100), len(records))


def precision_at(records: Sequence[ImageRecord], score: float, iou: float = 0.5) -> float:
    """Percent of the predictions at or above a score that are right.

    Args:
        records: Images with predictions of every score.
        score: The threshold.
        iou: Minimum IoU of a pair.

    Returns:
        The precision; NaN without predictions.
    """
    scores, right, _ = _matched_scores(records, iou)
    predicted = int((scores >= score).sum())
    return 100 * int((right >= score).sum()) / predicted if predicted else float("nan")


def _matched_scores(records: Sequence[ImageRecord], iou: float) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Scores of all predictions, scores of those that are right, and the number of annotations."""
    masks = have_masks(records)
    scores = [p.score for item in records for p in item.predictions]
    right = [
        item.predictions[prediction].score
        for item in records
        if item.truth
        for prediction, _ in greedy_pairs(item, item.iou(masks), 0.0, iou)
    ]
    return np.array(scores, np.float64), np.array(right, np.float64), sum(len(item.truth) for item in records)


def score_systems(
    systems: Sequence[System],
    baselines: Sequence[System],
    groups: Sequence[Hashable],
    thresholds: Mapping[str, Threshold | None],
    settings: CompareSettings,
) -> list[Score]:
    """Score every system and compare it with the baselines.

    Args:
        systems: Rows, scored on the same images in the same order.
        baselines: Rows among them.
        groups: A key per image; images of one slide are drawn together.
        thresholds: Name of a system -> its own threshold.
        settings: Thresholds of IA, and the bootstrap.

    Returns:
        One score per system.
    """
    computed = {row.name: _statistics(row, thresholds.get(row.name), settings) for row in systems}
    scores = []
    for row in systems:
        own = thresholds.get(row.name)
        figures = headline(row.records, settings.ia_score, settings.ia_iou, settings.max_detections)
        if own is not None:
            figures[OWN] = instance_accuracy(row.records, own.score, settings.ia_iou, have_masks(row.records))
        compared = {
            base.name: _differences(computed[base.name], computed[row.name], groups, settings)
            for base in baselines
            if base.name != row.name
        }
        precision = float("nan") if own is None else precision_at(row.records, own.score, settings.ia_iou)
        scores.append(Score(row, figures, own, precision, compared))
    return scores


class _Remembered:
    """A statistic that is computed once for each resample: systems are compared on the same ones."""

    def __init__(self, compute: Statistic) -> None:
        self.compute = compute
        self.known: dict[bytes, float] = {}

    def __call__(self, weights: Weights) -> float:
        """The figure at the images' weights."""
        key = weights.tobytes()
        if key not in self.known:
            self.known[key] = self.compute(weights)
        return self.known[key]


def _statistics(row: System, own: Threshold | None, settings: CompareSettings) -> dict[str, _Remembered]:
    """The row's figures as functions of the images' weights, those that exist."""
    names = [name for name in HEADLINE if name != "MaskAP" or have_masks(row.records)]
    how = (settings.ia_score, settings.ia_iou, settings.max_detections)
    found = {name: _Remembered(statistic(row.records, name, *how)) for name in names}
    if own is not None:
        found[OWN] = _Remembered(statistic(row.records, "IA", own.score, settings.ia_iou))
    return found


def _differences(
    first: Mapping[str, Statistic],
    second: Mapping[str, Statistic],
    groups: Sequence[Hashable],
    settings: CompareSettings,
) -> dict[str, Difference]:
    """The second side minus the first, for each figure that both have."""
    return {
        name: paired_bootstrap(
            first[name], second[name], len(groups), settings.resamples, settings.seed, settings.level, groups
        )
        for name in ALL_FIGURES
        if name in first and name in second
    }
