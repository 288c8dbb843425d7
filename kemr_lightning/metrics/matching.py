"""Which prediction belongs to which annotation, how well its mask fits, and what went wrong with the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from kemr_lightning.core import rle
from kemr_lightning.core.instances import Patch
from kemr_lightning.metrics.overlap import overlapped
from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.metrics.segmentation import greedy_pairs

BOUNDARY_TOLERANCES = (1.0, 2.0)
"""Distances in pixels within which two outlines count as the same."""

TruthKind = Literal["matched", "mislabelled", "merged", "split", "missed"]
PredictionKind = Literal["matched", "mislabelled", "merging", "splitting", "duplicate", "false", "unsure", "ignored"]

UNCOUNTED = ("unsure", "ignored")
"""Kinds of predictions that are neither right nor wrong."""


@dataclass(frozen=True)
class Pair:
    """A prediction and the annotation it was matched to.

    Attributes:
        prediction: Position in the record's predictions.
        truth: Position in the record's annotations.
        iou: IoU of their masks, or of their boxes from `match_boxes`.
        boundary_f: F-score of their outlines at each of `BOUNDARY_TOLERANCES`, in [0, 1]; empty if not computed.
    """

    prediction: int
    truth: int
    iou: float
    boundary_f: tuple[float, ...]


@dataclass(frozen=True)
class ImageMatch:
    """The matching of one image.

    Attributes:
        pairs: The pairs that Instance Accuracy counts.
        truth: The kind of each annotation.
        predictions: The kind of each prediction.
        overlapped: Whether each annotation shares pixels with another, see `kemr_lightning.metrics.overlap`.
    """

    pairs: list[Pair]
    truth: list[TruthKind]
    predictions: list[PredictionKind]
    overlapped: list[bool]


def match(item: ImageRecord, score: float = 0.5, iou: float = 0.5, boundaries: bool = True) -> ImageMatch:
    """Match the predictions of an image to its annotations, by masks.

    An annotation that is not ``matched`` is the first of these that applies:

    - ``mislabelled``: an unmatched prediction of another class reaches ``iou``;
    - ``merged``: a prediction covers at least half of it and at least half of another annotation;
    - ``split``: two or more unmatched predictions each have at least half of their area in it;
    - ``missed``.

    A prediction that is not ``matched`` is ``mislabelled``, ``merging`` or ``splitting`` accordingly, or

    - ``splitting`` as well if it lies in a matched annotation, but beside the mask that was matched to it;
    - ``duplicate``: it reaches ``iou`` with a matched annotation;
    - ``unsure``: its score is below ``score``, and it does not count;
    - ``ignored``: it lies on a crowd, and does not count;
    - ``false``.

    A matched prediction that also covers a merged annotation stays ``matched``.

    Args:
        item: An image with masks.
        score: Predictions below this score are ignored.
        iou: Minimum IoU of a pair.
        boundaries: Whether to compute the F-scores of the outlines.

    Returns:
        The matching.
    """
    found, truth = [item.rle(p) for p in item.predictions], [item.rle(t) for t in item.truth]
    overlaps = rle.iou(found, truth)
    taken = np.array([p.score >= score for p in item.predictions], dtype=bool)
    pairs = greedy_pairs(item, overlaps, score, iou)
    truth_kind: list[TruthKind] = ["missed"] * len(truth)
    kind: list[PredictionKind] = ["false" if used else "unsure" for used in taken]
    for prediction, annotation in pairs:
        kind[prediction], truth_kind[annotation] = "matched", "matched"
    if len(found) and len(truth):
        shared = rle.intersections(found, truth).astype(float)
        covered = shared / np.maximum([rle.area(t) for t in truth], 1)[None] >= 0.5
        inside = shared / np.maximum([rle.area(p) for p in found], 1)[:, None] >= 0.5
        _name_errors(kind, truth_kind, overlaps >= iou, covered, inside, taken)
        among = rle.intersections(found, found).astype(float)
        _name_pieces(kind, pairs, inside, among / np.maximum(np.diag(among), 1)[:, None] >= 0.5)
        for prediction in np.flatnonzero((overlaps >= iou).any(axis=1)).tolist():
            kind[prediction] = "duplicate" if kind[prediction] == "false" else kind[prediction]
    _ignore(kind, item.on_crowds(True, iou))
    return ImageMatch(
        [_pair(p, t, overlaps[p, t], found[p], truth[t], boundaries) for p, t in pairs],
        truth_kind,
        kind,
        overlapped(item),
    )


def match_boxes(item: ImageRecord, score: float = 0.5, iou: float = 0.5) -> ImageMatch:
    """Match predictions to annotations by boxes, for annotations that have only boxes.

    Boxes cannot reveal merged or split chromosomes, so an annotation is ``matched`` or ``missed``, a prediction
    ``matched``, ``false``, ``unsure`` or ``ignored``, and no annotation counts as overlapped.

    Args:
        item: An image.
        score: Predictions below this score are ignored.
        iou: Minimum IoU of a pair.
    """
    overlaps = item.iou(masks=False)
    pairs = greedy_pairs(item, overlaps, score, iou)
    truth: list[TruthKind] = ["missed"] * len(item.truth)
    predictions: list[PredictionKind] = ["false" if p.score >= score else "unsure" for p in item.predictions]
    for prediction, annotation in pairs:
        predictions[prediction], truth[annotation] = "matched", "matched"
    _ignore(predictions, item.on_crowds(False, iou))
    found = [Pair(p, t, float(overlaps[p, t]), ()) for p, t in pairs]
    return ImageMatch(found, truth, predictions, [False] * len(truth))


def _ignore(kind: list[PredictionKind], on_crowd: NDArray[np.bool_]) -> None:
    """Let wrong predictions on crowds not count, in place."""
    for prediction in np.flatnonzero(on_crowd).tolist():
        kind[prediction] = "ignored" if kind[prediction] in ("false", "duplicate") else kind[prediction]


def _name_errors(
    kind: list[PredictionKind],
    truth_kind: list[TruthKind],
    close: NDArray[np.bool_],
    covered: NDArray[np.bool_],
    inside: NDArray[np.bool_],
    taken: NDArray[np.bool_],
) -> None:
    """Fill in the kinds of what is not matched, in place.

    Args:
        kind: The kind of each prediction: ``matched``, ``false`` or ``unsure``.
        truth_kind: The kind of each annotation: ``matched`` or ``missed``.
        close: ``(predictions, annotations)`` whether the IoU is high enough for a pair.
        covered: ``(predictions, annotations)`` whether the prediction covers half of the annotation.
        inside: ``(predictions, annotations)`` whether half of the prediction lies in the annotation.
        taken: ``(predictions,)`` whether the prediction takes part.
    """

    def free() -> NDArray[np.bool_]:
        return np.array([k == "false" for k in kind], dtype=bool)

    for annotation in range(len(truth_kind)):
        if truth_kind[annotation] == "missed":
            for prediction in np.flatnonzero(close[:, annotation] & free())[:1].tolist():
                kind[prediction], truth_kind[annotation] = "mislabelled", "mislabelled"
    merging = taken & (covered.sum(axis=1) >= 2)
    for annotation in range(len(truth_kind)):
        if truth_kind[annotation] != "missed":
            continue
        over = np.flatnonzero(merging & covered[:, annotation])
        parts = np.flatnonzero(inside[:, annotation] & free())
        if len(over):
            truth_kind[annotation] = "merged"
            for prediction in over.tolist():
                kind[prediction] = "merging" if kind[prediction] == "false" else kind[prediction]
        elif len(parts) >= 2:
            truth_kind[annotation] = "split"
            for prediction in parts.tolist():
                kind[prediction] = "splitting"


def _name_pieces(
    kind: list[PredictionKind],
    pairs: Sequence[tuple[int, int]],
    inside: NDArray[np.bool_],
    over: NDArray[np.bool_],
) -> None:
    """Name the other pieces of annotations whose larger piece was matched, in place.

    Args:
        kind: The kind of each prediction.
        pairs: ``(prediction, annotation)`` positions.
        inside: ``(predictions, annotations)`` whether half of the prediction lies in the annotation.
        over: ``(predictions, predictions)`` whether half of the first lies in the second.
    """
    for matched, annotation in pairs:
        for prediction in np.flatnonzero(inside[:, annotation] & ~over[:, matched]).tolist():
            kind[prediction] = "splitting" if kind[prediction] == "false" else kind[prediction]


def _pair(prediction: int, truth: int, iou: float, found: rle.RLE, annotated: rle.RLE, boundaries: bool) -> Pair:
    scores = boundary_f(rle.decode(found), rle.decode(annotated)) if boundaries else ()
    return Pair(prediction, truth, float(iou), scores)


def boundary_f(
    first: Patch, second: Patch, tolerances: Sequence[float] = BOUNDARY_TOLERANCES, threshold: float = 0.5
) -> tuple[float, ...]:
    """F-score of two masks' outlines: the harmonic mean of the fractions of each that lie near the other.

    An outline consists of the mask's pixels that have a side neighbour outside the mask; distances are between pixel
    centres.

    Args:
        first: A mask.
        second: Another mask of the same image.
        tolerances: Largest distances in pixels that count as near.
        threshold: Minimum probability of a mask pixel; ignored for bool masks.

    Returns:
        One score in [0, 1] per tolerance; 1 if both masks are empty, 0 if only one is.
    """
    windows = np.array([first.window, second.window])
    x0, y0 = windows[:, :2].min(axis=0) - 1
    x1, y1 = windows[:, 2:].max(axis=0) + 1
    outlines = []
    for patch in (first, second):
        mask = np.zeros((y1 - y0, x1 - x0), dtype=bool)
        left, top, right, bottom = patch.window
        mask[top - y0 : bottom - y0, left - x0 : right - x0] = patch.binary(threshold).cpu().numpy()
        outlines.append(mask & ~binary_erosion(mask))
    counts = [int(outline.sum()) for outline in outlines]
    if not all(counts):
        return tuple(float(not any(counts)) for _ in tolerances)
    distances = [distance_transform_edt(~outline) for outline in outlines]
    scores = []
    for tolerance in tolerances:
        precision = float((distances[1][outlines[0]] <= tolerance).mean())
        recall = float((distances[0][outlines[1]] <= tolerance).mean())
        scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return tuple(scores)


def summarise(matches: Sequence[ImageMatch]) -> dict[str, Any]:
    """Figures of a data set's matchings, as plain values for JSON; NaN where there is nothing to average.

    Args:
        matches: The matching of each image.

    Returns:
        ``annotations`` and ``predictions`` (kind -> number); ``mean_iou`` and ``boundary_f`` (tolerance -> F) of the
        pairs, in percent; ``overlapped`` and ``isolated``, each with ``annotations`` (their number), ``found`` (percent
        of them matched), ``mean_iou`` and ``boundary_f``.
    """
    pairs = [pair for item in matches for pair in item.pairs]
    flags = np.array([flag for item in matches for flag in item.overlapped], dtype=bool)
    matched = np.array([kind == "matched" for item in matches for kind in item.truth], dtype=bool)
    ious = np.array([pair.iou for pair in pairs])
    of_overlapped = np.array([item.overlapped[pair.truth] for item in matches for pair in item.pairs], dtype=bool)
    edges = np.array([pair.boundary_f for pair in pairs if pair.boundary_f], dtype=np.float64)

    def boundary(where: NDArray[np.bool_]) -> dict[str, float]:
        if not len(edges):
            return {}
        return {f"{t:g}px": _percent(edges[where, i]) for i, t in enumerate(BOUNDARY_TOLERANCES)}

    return {
        "annotations": dict(Counter(kind for item in matches for kind in item.truth)),
        "predictions": dict(Counter(kind for item in matches for kind in item.predictions)),
        "mean_iou": _percent(ious),
        "boundary_f": boundary(np.ones(len(pairs), dtype=bool)),
        **{
            name: {
                "annotations": int(where.sum()),
                "found": _percent(matched[where]),
                "mean_iou": _percent(ious[those]),
                "boundary_f": boundary(those),
            }
            for name, where, those in (
                ("overlapped", flags, of_overlapped),
                ("isolated", ~flags, ~of_overlapped),
            )
        },
    }


def _percent(values: NDArray[Any]) -> float:
    return float(values.mean() * 100) if values.size else float("nan")
