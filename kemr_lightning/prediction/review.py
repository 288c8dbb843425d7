"""Which images a person should look at first, and why. A flag, never a filter: 45,X and 47,+21 are real.

Each reason has a weight in [0, 1]; the review score is 100 (1 - product of (1 - weight)), so that every further reason
raises the score and none takes it beyond 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from kemr_lightning.core import rle
from kemr_lightning.core.contracts import Prediction
from kemr_lightning.core.geometry import patch_iou
from kemr_lightning.core.instances import Patch

LOW_SCORE = 0.7
"""Instances with lower scores are of low confidence."""

NEARLY = 0.3
"""An instance that was left out may be a chromosome at or above this score."""

DISAGREEMENT = 0.02
"""Minimum mean standard deviation between the probabilities of mask heads that disagree: one chromosome in 20."""

CHANGED = 0.9
"""IoU of initial and refined mask below which refinement has changed a lot: one chromosome in 70."""

LARGE = 2.4
"""Area, in medians of the image's instances, at or above which one may be two: the largest has 2.0 to 2.3."""

RAGGED, LARGER = 0.55, 1.5
"""An instance may also be two crossing chromosomes if its solidity is below the first number and its area, in medians,
at least the second.

Measured on annotations, this flags 57 % (Q-banded) to 67 % (DAPI) of the unions of two overlapping chromosomes, and
wrongly 0.3 to 0.8 single chromosomes per image.
"""

SAME = 0.6
"""Fraction of the smaller of two masks that lies in the other if they are on the same pixels."""

Mark = Literal["low confidence", "heads disagree", "changed", "as large as two", "same pixels", "cut by a tile"]
"""What is remarkable about an instance, as Labelme files, the crop index and the report name it."""


@dataclass(frozen=True)
class Review:
    """What is remarkable about the prediction of one image.

    Attributes:
        score: In [0, 100], higher for images to look at first.
        reasons: In words, the weightiest first.
        marks: One set per instance.
    """

    score: float
    reasons: list[str] = field(default_factory=list)
    marks: list[set[Mark]] = field(default_factory=list)


@dataclass(frozen=True)
class InstanceFacts:
    """What a review is based on: one entry for each written instance of an image.

    Attributes:
        scores: Confidence, in [0, 1].
        areas: Pixels of the final masks.
        solidity: Area over the area of the convex hull, in [0, 1].
        stability: IoU of initial and final mask; ones without refinement.
        disagreement: As in `Instances`; None for models with one mask head.
        twin: Position of another instance on the same pixels, else -1.
        border: Whether it touches the image's border.
        cut: Whether it was probably cut by a tile's border.
        left_out: Scores of the predictions that were not written.
    """

    scores: list[float]
    areas: list[int]
    solidity: list[float]
    stability: list[float]
    disagreement: list[float] | None
    twin: list[int]
    border: list[bool]
    cut: list[bool]
    left_out: list[float]


def instance_facts(prediction: Prediction, written: Tensor) -> InstanceFacts:
    """Collect what a review is based on.

    Args:
        prediction: All of an image's instances, with masks.
        written: ``(N,)`` bool: which of them are written.

    Returns:
        Facts about the written instances, in their order.
    """
    final = prediction.final
    kept, before = final[written], prediction.initial[written]
    patches, previous = kept.patches or [], before.patches or []
    codes = [rle.encode(patch, final.image_size) for patch in patches]
    shared = rle.intersections(codes, codes).astype(np.float64)
    np.fill_diagonal(shared, 0)
    areas = [rle.area(code) for code in codes]
    inside = shared / np.maximum(np.minimum.outer(areas, areas), 1) if areas else shared
    height, width = final.image_size
    boxes = [rle.tight_box(code) for code in codes]
    return InstanceFacts(
        scores=[float(value) for value in kept.scores],
        areas=areas,
        solidity=[solidity(patch.binary().numpy()) for patch in patches],
        stability=[_stability(a, b) for a, b in zip(previous, patches, strict=True)],
        disagreement=None if kept.disagreement is None else [float(value) for value in kept.disagreement],
        twin=[int(row.argmax()) if row.max() >= SAME else -1 for row in inside],
        border=[x <= 0 or y <= 0 or x + w >= width or y + h >= height for x, y, w, h in boxes],
        cut=[False] * len(kept) if prediction.cut is None else prediction.cut[written].tolist(),
        left_out=[float(value) for value in final.scores[~written]],
    )


def solidity(mask: npt.NDArray[np.bool_]) -> float:
    """Area of a mask over the area of its convex hull, both counted on pixel corners; 1 for an empty mask."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return 1.0
    corners = (np.stack([columns, rows], axis=1)[:, None] + np.array([[0, 0], [1, 0], [0, 1], [1, 1]])).reshape(-1, 2)
    hull = cv2.convexHull(corners.astype(np.float32))
    return min(1.0, len(rows) / max(float(cv2.contourArea(hull)), 1.0))


def _stability(before: Patch, after: Patch) -> float:
    """IoU of a mask before and after refinement; a mask that was and stays empty has not changed."""
    return patch_iou(before, after) if before.area() or after.area() else 1.0


def review_image(facts: InstanceFacts, expected: int | None) -> Review:
    """Judge the prediction of one image.

    Args:
        facts: See `instance_facts`.
        expected: Usual number of chromosomes, or None.

    Returns:
        The review.
    """
    count = len(facts.scores)
    marks: list[set[Mark]] = [set() for _ in range(count)]
    weighed: list[tuple[float, str]] = []
    if expected is not None and count != expected:
        off = abs(count - expected)
        weighed.append((min(0.15 + 0.1 * off, 0.9), f"{count} instead of {expected}"))

    def note(mark: Mark, positions: Sequence[int], each: float, text: str) -> None:
        for position in positions:
            marks[position].add(mark)
        if positions:
            weighed.append((1 - (1 - each) ** len(positions), text.format(len(positions))))

    note("low confidence", [i for i, s in enumerate(facts.scores) if s < LOW_SCORE], 0.06, "{} of low confidence")
    unsure = sum(s >= NEARLY for s in facts.left_out)
    if unsure:
        weighed.append((1 - 0.96**unsure, f"{unsure} left out that may be one"))
    if facts.disagreement is not None:
        apart = [i for i, value in enumerate(facts.disagreement) if value >= DISAGREEMENT]
        note("heads disagree", apart, 0.1, "{} where the mask heads disagree")
    note("changed", [i for i, v in enumerate(facts.stability) if v < CHANGED], 0.06, "{} changed a lot by refinement")
    note("as large as two", _large(facts), 0.3, "{} as large as two")
    # Both instances of a pair are marked.
    note("same pixels", [i for i, j in enumerate(facts.twin) if j >= 0], 0.15, "{} on the same pixels as another")
    note("cut by a tile", [i for i, value in enumerate(facts.cut) if value], 0.2, "{} perhaps cut by a tile's border")
    border = sum(facts.border)
    if border:
        weighed.append((1 - 0.97**border, f"{border} at the image's border"))
    weighed.sort(key=lambda item: -item[0])
    clear = float(np.prod([1 - weight for weight, _ in weighed])) if weighed else 1.0
    return Review(round(100 * (1 - clear), 1), [text for _, text in weighed], marks)


def _large(facts: InstanceFacts) -> list[int]:
    """Positions of the instances that may be two; none where there are too few for a median."""
    if len(facts.areas) < 5:
        return []
    median = float(np.median(facts.areas))
    return [
        i
        for i, (area, solid) in enumerate(zip(facts.areas, facts.solidity, strict=True))
        if area >= LARGE * median or (area >= LARGER * median and solid < RAGGED)
    ]
