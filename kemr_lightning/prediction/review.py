"""Which images a person should look at first, and why. A flag, never a filter: 45,X and 47,+21 are real.

Each reason has a weight in [0, 1]; the review score is 100 (1 - the product of (1 - weight)), so that reasons add up
without any of them, or their number, going beyond 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from kemr_lightning.core import rle
from kemr_lightning.core.instances import Instances, Patch

LOW_SCORE = 0.7
"""Instances below it are of low confidence ..."""

NEARLY = 0.3
"""... and so is what was left out, but not below this."""

DISAGREEMENT = 0.02
"""Mean standard deviation between the mask heads' probabilities from which on they disagree: one chromosome in 20."""

CHANGED = 0.9
"""IoU of the initial with the refined mask below which refinement has changed a lot: one chromosome in 70."""

LARGE = 2.4
"""Area in medians of the image's instances from which on one may be two: the largest chromosome has 2.0 to 2.3."""

SPREAD, LARGER = 0.55, 1.5
"""Also one whose area is less than this part of its convex hull's, and this many medians: two that cross.

The union of two annotated chromosomes that overlap is flagged in 57 % (Q-banded) to 67 % (DAPI) of cases; single ones
are in 0.3 to 0.8 cases an image.
"""

SAME = 0.6
"""Part of the smaller of two masks that lies in the other if they are on the same pixels."""

KINDS = ("low confidence", "heads disagree", "changed", "as large as two", "same pixels", "cut by a tile")


@dataclass(frozen=True)
class Review:
    """What is remarkable about the prediction of one image.

    Attributes:
        score: In [0, 100], higher for what to look at first.
        reasons: In words, the weightiest first.
        marks: One set of `KINDS` per instance.
    """

    score: float
    reasons: list[str] = field(default_factory=list)
    marks: list[set[str]] = field(default_factory=list)


@dataclass(frozen=True)
class Facts:
    """What is known of the written instances of an image, one entry each.

    Attributes:
        scores: Confidence.
        areas: Pixels of the final masks.
        solidity: Area over the area of the convex hull.
        stability: IoU of initial and final mask; ones without refinement.
        disagreement: Of the mask heads, or None.
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


def facts(initial: Instances, final: Instances, cut: Tensor, written: Tensor) -> Facts:
    """Collect what a review is based on.

    Args:
        initial: All of an image's instances with the detector's masks.
        final: The same with the masks that are written.
        cut: ``(N,)`` bool, as `kemr_lightning.prediction.tiling.predict_tiles` gives it.
        written: ``(N,)`` bool: which are written.

    Returns:
        Facts about the instances that are written, in their order.
    """
    kept, before = final[written], initial[written]
    patches, previous = kept.patches or [], before.patches or []
    codes = [rle.encode(patch, final.image_size) for patch in patches]
    shared = rle.intersections(codes, codes).astype(np.float64)
    np.fill_diagonal(shared, 0)
    areas = [rle.area(code) for code in codes]
    inside = shared / np.maximum(np.minimum.outer(areas, areas), 1) if areas else shared
    height, width = final.image_size
    boxes = [rle.tight_box(code) for code in codes]
    return Facts(
        scores=[float(value) for value in kept.scores],
        areas=areas,
        solidity=[solidity(patch.binary().numpy()) for patch in patches],
        stability=[overlap(a, b) for a, b in zip(previous, patches, strict=True)],
        disagreement=None if kept.disagreement is None else [float(value) for value in kept.disagreement],
        twin=[int(row.argmax()) if row.max() >= SAME else -1 for row in inside],
        border=[x <= 0 or y <= 0 or x + w >= width or y + h >= height for x, y, w, h in boxes],
        cut=cut[written].tolist(),
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


def overlap(first: Patch, second: Patch) -> float:
    """IoU of two masks of one image; 1 if both are empty."""
    windows = np.array([first.window, second.window])
    x0, y0 = windows[:, :2].min(axis=0)
    x1, y1 = windows[:, 2:].max(axis=0)
    frames = np.zeros((2, y1 - y0, x1 - x0), dtype=bool)
    for frame, patch in zip(frames, (first, second), strict=True):
        left, top, right, bottom = patch.window
        frame[top - y0 : bottom - y0, left - x0 : right - x0] = patch.binary().numpy()
    union = int((frames[0] | frames[1]).sum())
    return int((frames[0] & frames[1]).sum()) / union if union else 1.0


def review(found: Facts, expected: int | None) -> Review:
    """Judge the prediction of one image.

    Args:
        found: See `facts`.
        expected: Number of chromosomes that is usual, or None.

    Returns:
        The review.
    """
    count = len(found.scores)
    marks: list[set[str]] = [set() for _ in range(count)]
    weighed: list[tuple[float, str]] = []
    if expected is not None and count != expected:
        off = abs(count - expected)
        weighed.append((min(0.15 + 0.1 * off, 0.9), f"{count} instead of {expected}"))

    def note(kind: str, positions: Sequence[int], each: float, text: str) -> None:
        for position in positions:
            marks[position].add(kind)
        if positions:
            weighed.append((1 - (1 - each) ** len(positions), text.format(len(positions))))

    note("low confidence", [i for i, s in enumerate(found.scores) if s < LOW_SCORE], 0.06, "{} of low confidence")
    unsure = sum(s >= NEARLY for s in found.left_out)
    if unsure:
        weighed.append((1 - 0.96**unsure, f"{unsure} left out that may be one"))
    if found.disagreement is not None:
        apart = [i for i, value in enumerate(found.disagreement) if value >= DISAGREEMENT]
        note("heads disagree", apart, 0.1, "{} where the mask heads disagree")
    note("changed", [i for i, v in enumerate(found.stability) if v < CHANGED], 0.06, "{} changed a lot by refinement")
    note("as large as two", _large(found), 0.3, "{} as large as two")
    twins = [i for i, other in enumerate(found.twin) if other >= 0]
    # Two instances are marked for each such case.
    note("same pixels", twins, 0.15, "{} on the same pixels as another")
    note("cut by a tile", [i for i, value in enumerate(found.cut) if value], 0.2, "{} perhaps cut by a tile's border")
    border = sum(found.border)
    if border:
        weighed.append((1 - 0.97**border, f"{border} at the image's border"))
    weighed.sort(key=lambda item: -item[0])
    clear = float(np.prod([1 - weight for weight, _ in weighed])) if weighed else 1.0
    return Review(round(100 * (1 - clear), 1), [text for _, text in weighed], marks)


def _large(found: Facts) -> list[int]:
    """Positions of the instances that may be two."""
    if len(found.areas) < 5:
        return []
    median = float(np.median(found.areas))
    return [
        i
        for i, (area, solid) in enumerate(zip(found.areas, found.solidity, strict=True))
        if area >= LARGE * median or (area >= LARGER * median and solid < SPREAD)
    ]
