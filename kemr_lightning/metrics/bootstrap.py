"""Paired bootstrap over images: how certain the difference between two sets of predictions is.

Images are drawn with replacement, the same ones for both sides, and each figure is recomputed from what is stored per
image; nothing is matched twice. An image drawn k times has weight k.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kemr_lightning.metrics.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    RECALL_POINTS,
    coco_dataset,
)
from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.metrics.segmentation import HEADLINE, greedy_pairs, have_masks

Weights = NDArray[np.int64]
Statistic = Callable[[Weights], float]
"""A figure in percent as a function of ``(images,)`` weights; NaN where it does not exist."""


@dataclass(frozen=True)
class Difference:
    """The difference of two figures with its bootstrap interval, in percentage points.

    Attributes:
        first: The figure of the first side.
        second: The figure of the second side.
        difference: ``second - first``.
        low: Lower end of the interval of the difference.
        high: Upper end of the interval.
        above_zero: Fraction of the resamples in which the second side is better, in [0, 1]; ties count half.
        resamples: Number of resamples in which the figure exists.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    above_zero: float
    resamples: int


def paired_bootstrap(
    first: Statistic,
    second: Statistic,
    images: int,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    groups: Sequence[Hashable] | None = None,
) -> Difference:
    """Bootstrap the difference of two figures on the same images (percentile interval, Efron & Tibshirani 1993).

    Args:
        first: Figure of the first side.
        second: Figure of the second side.
        images: Number of images.
        resamples: Number of draws.
        seed: Seed of the draws.
        level: Coverage of the interval, in (0, 1).
        groups: A key per image; images of one group (parts of one slide) are drawn together. With None each image is
            a group of its own.

    Returns:
        The difference with its interval; NaN where the figure does not exist.

    Raises:
        ValueError: There is no image, or not one group per image.
    """
    keys = list(range(images)) if groups is None else list(groups)
    if not images or len(keys) != images:
        raise ValueError(f"{images} images and {len(keys)} groups: one group per image is needed, and at least one")
    numbers: dict[Hashable, int] = {}
    member = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(0, len(numbers), len(numbers)), minlength=len(numbers))
        weights = drawn[member].astype(np.int64)
        found.append(second(weights) - first(weights))
    values = np.array(found, dtype=np.float64)
    values = values[np.isfinite(values)]
    once = np.ones(images, dtype=np.int64)
    whole = (first(once), second(once))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]) if len(values) else (np.nan, np.nan)
    above = float((values > 0).mean() + (values == 0).mean() / 2) if len(values) else float("nan")
    return Difference(*whole, whole[1] - whole[0], float(low), float(high), above, len(values))


def statistic(
    records: Sequence[ImageRecord],
    figure: str,
    ia_score: float = 0.5,
    ia_iou: float = 0.5,
    max_detections: int = MAX_DETECTIONS,
) -> Statistic:
    """A headline figure of image records as a function of the images' weights.

    Args:
        records: One per image; weights follow their order.
        figure: One of ``BoxAP MaskAP AP50 AP75 IA``, or ``AP55`` ... ``AP95``, of boxes where there are no masks.
        ia_score: Score threshold of IA.
        ia_iou: IoU threshold of IA.
        max_detections: See `kemr_lightning.metrics.average_precision.average_precision`.

    Returns:
        The statistic; with all weights 1 it equals the metric's figure.

    Raises:
        ValueError: The figure is unknown, or is MaskAP where there are only boxes.
    """
    masks = have_masks(records)
    if figure == "IA":
        return _accuracy(records, ia_score, ia_iou, masks)
    if figure == "BoxAP":
        return average_precision_statistic(records, masks=False, max_detections=max_detections)
    if figure == "MaskAP" and masks:
        return average_precision_statistic(records, masks=True, max_detections=max_detections)
    if figure.startswith("AP") and figure[2:].isdigit():
        at = int(figure[2:]) / 100
        if np.isclose(IOU_THRESHOLDS, at).any():
            return average_precision_statistic(records, masks, at, max_detections)
    raise ValueError(f"{figure} is not a figure of these records. Use one of {', '.join(HEADLINE)} or AP55 ... AP95")


def _accuracy(records: Sequence[ImageRecord], score: float, iou: float, masks: bool) -> Statistic:
    counts = np.array([len(item.truth) for item in records])
    found = np.array([len(greedy_pairs(item, item.iou(masks), score, iou)) if item.truth else 0 for item in records])

    def compute(weights: Weights) -> float:
        total = int(weights @ counts)
        return 100 * int(weights @ found) / total if total else float("nan")

    return compute


@dataclass(frozen=True)
class _Class:
    """All detections of a class, in descending order of score (ties by image id, then in their given order).

    Attributes:
        image: ``(D,)`` position of each detection's image.
        right: ``(thresholds, D)`` whether a detection is matched at each IoU threshold.
        counts: ``(thresholds, D)`` whether it counts: False for those that lie on a crowd.
        annotated: ``(images,)`` number of annotations of each image.
    """

    image: NDArray[np.int64]
    right: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    annotated: NDArray[np.int64]


def average_precision_statistic(
    records: Sequence[ImageRecord], masks: bool, iou: float | None = None, max_detections: int = MAX_DETECTIONS
) -> Statistic:
    """COCO's AP as a function of the images' weights; matching is done once, by pycocotools.

    With all weights 1 it equals pycocotools' AP. Where detections of an image that was drawn several times tie in
    score, all copies of the first one come before all copies of the next.

    Args:
        records: One per image; weights follow their order.
        masks: Compare masks, else boxes.
        iou: One of the ten thresholds, or None for their mean.
        max_detections: See `kemr_lightning.metrics.average_precision.average_precision`.
    """
    rows = np.flatnonzero(np.isclose(IOU_THRESHOLDS, iou)) if iou is not None else np.arange(len(IOU_THRESHOLDS))
    classes = [
        _Class(c.image, c.right[rows], c.counts[rows], c.annotated) for c in _match_all(records, masks, max_detections)
    ]

    def compute(weights: Weights) -> float:
        found = [p for c in classes if (p := _precision(c, weights)) is not None]
        return 100 * float(np.mean(found)) if found else float("nan")

    return compute


def _precision(item: _Class, weights: Weights) -> NDArray[np.float64] | None:
    """``(thresholds, 101)`` interpolated precision as in `COCOeval.accumulate`; None without annotations."""
    annotated = int(weights @ item.annotated)
    if not annotated:
        return None
    each = weights[item.image]
    right = np.cumsum(each * item.right, axis=1, dtype=np.float64)
    seen = np.cumsum(each * item.counts, axis=1, dtype=np.float64)
    recall = right / annotated
    precision = right / (seen + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    result = np.zeros((len(right), len(RECALL_POINTS)))
    for row, (steps, values) in enumerate(zip(recall, envelope, strict=True)):
        where = np.searchsorted(steps, RECALL_POINTS, side="left")
        reached = where < len(values)
        result[row, reached] = values[where[reached]]
    return result


def _match_all(records: Sequence[ImageRecord], masks: bool, max_detections: int) -> list[_Class]:
    """Match the images of every class once, at all ten thresholds.

    Raises:
        ValueError: Two records have the same image id.
    """
    labels = sorted({entry.label for item in records for entry in (*item.truth, *item.predictions)})
    order = {item.image_id: position for position, item in enumerate(records)}
    if len(order) != len(records):
        raise ValueError("two records have the same image id")
    matched = _evaluate(records, labels, masks, max_detections)
    classes = []
    for label in labels:
        scores, images = [np.zeros(0)], [np.zeros(0, dtype=np.int64)]
        right, counts = [np.zeros((10, 0), dtype=bool)], [np.zeros((10, 0), dtype=bool)]
        for item in sorted(records, key=lambda r: r.image_id):
            one = matched.get((item.image_id, label))
            if one is not None:
                scores.append(np.asarray(one["dtScores"], dtype=np.float64))
                images.append(np.full(len(one["dtScores"]), order[item.image_id], dtype=np.int64))
                counts.append(~np.asarray(one["dtIgnore"], dtype=bool).reshape(10, -1))
                right.append((np.asarray(one["dtMatches"]).reshape(10, -1) > 0) & counts[-1])
        by_score = np.argsort(-np.concatenate(scores), kind="mergesort")
        annotated = np.array([sum(t.label == label for t in item.truth) for item in records], dtype=np.int64)
        matches, counting = (np.concatenate(flags, axis=1)[:, by_score] for flags in (right, counts))
        classes.append(_Class(np.concatenate(images)[by_score], matches, counting, annotated))
    return classes


def _evaluate(
    records: Sequence[ImageRecord], labels: Sequence[int], masks: bool, max_detections: int
) -> dict[tuple[int, int], Any]:
    """The result of pycocotools for each image and class, by image id and label."""
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for which in ("truth", "predictions"):
            side = COCO()
            side.dataset = coco_dataset(records, labels, which, masks)
            side.createIndex()
            sides.append(side)
        evaluation = COCOeval(*sides, "segm" if masks else "bbox")
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.params.iouThrs, evaluation.params.maxDets = IOU_THRESHOLDS, [max_detections]
        evaluation.evaluate()
    return {(one["image_id"], one["category_id"]): one for one in evaluation.evalImgs if one is not None}
