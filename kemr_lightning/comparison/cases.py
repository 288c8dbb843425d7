"""Where two systems differ the most, chosen by rule.

Every annotation is paired with a prediction of each system as Instance Accuracy does: predictions with at least a given
score, the highest first, each take the free annotation of their class with the highest mask IoU if that reaches the
threshold.

- *masks*: annotations that both systems found. The difference is the second system's IoU minus the first's; the largest
  positive ones are wins of the second system, the largest negative ones its losses.
- *found*: annotations that only one of the systems found, those with the highest IoU first.

Ties keep the order of images and annotations. A case that lies in the window of an earlier one, and so is in its
picture already, is skipped. Wins and losses are limited to the same number; nothing is chosen by hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kemr_lightning.comparison.systems import System
from kemr_lightning.metrics.records import Box, ImageRecord
from kemr_lightning.metrics.segmentation import greedy_pairs
from kemr_lightning.output.mask_figures import apart, square_about

NOTABLE = 0.02
"""A change of an IoU counts if it is larger."""

Window = tuple[float, float, float, float]
"""``(x0, y0, x1, y1)`` in pixels of an image."""


@dataclass(frozen=True)
class Found:
    """Whether a system found an annotation, and how well.

    Attributes:
        prediction: Position of the matching prediction in the record, or None if the annotation was not found.
        iou: IoU of the two masks, 0 if it was not found.
    """

    prediction: int | None = None
    iou: float = 0.0


@dataclass(frozen=True)
class Case:
    """An annotation and how two systems found it.

    Attributes:
        image: Position of its image in the records.
        truth: Its position in the image's annotations.
        first: How the first system found it.
        second: How the second system found it.
    """

    image: int
    truth: int
    first: Found
    second: Found

    @property
    def difference(self) -> float:
        """IoU of the second system minus that of the first."""
        return self.second.iou - self.first.iou


@dataclass(frozen=True)
class Choice:
    """The cases to show, and how many there are in all.

    Attributes:
        wins: Cases in which the second system is better.
        losses: Cases in which the first system is better.
        better: Number of annotations with a difference above `NOTABLE` (masks), or found by the second system alone.
        worse: The same number for the first system.
        compared: Number of annotations that were compared.
    """

    wins: list[Case]
    losses: list[Case]
    better: int
    worse: int
    compared: int


def found_by(records: Sequence[ImageRecord], score: float, iou: float) -> list[list[Found]]:
    """How a system found every annotation.

    Args:
        records: The system's records.
        score: Predictions with a lower score do not count.
        iou: Minimum IoU of a prediction with its annotation.

    Returns:
        By image, then by annotation.
    """
    result = []
    for item in records:
        found = [Found()] * len(item.truth)
        overlaps = item.iou(masks=True)
        for prediction, truth in greedy_pairs(item, overlaps, score, iou) if item.truth else ():
            found[truth] = Found(prediction, float(overlaps[prediction, truth]))
        result.append(found)
    return result


def cases_of(first: System, second: System, score: float = 0.5, iou: float = 0.5) -> list[Case]:
    """All annotations with how two systems found them.

    Args:
        first: A system.
        second: Another one, tested on the same images.
        score: Predictions with a lower score do not count.
        iou: Minimum IoU of a prediction with its annotation.
    """
    sides = (found_by(row.records, score, iou) for row in (first, second))
    return [
        Case(image, truth, one, other)
        for image, pair in enumerate(zip(*sides, strict=True))
        for truth, (one, other) in enumerate(zip(*pair, strict=True))
    ]


def choose_masks(cases: Sequence[Case], records: Sequence[ImageRecord], count: int) -> Choice:
    """Choose annotations that both systems found, by the difference of their masks; see the module.

    Args:
        cases: All cases.
        records: The records of either system, for places and sizes.
        count: Maximum number of wins to show, and of losses.
    """
    both = [case for case in cases if case.first.prediction is not None and case.second.prediction is not None]
    wins = sorted((case for case in both if case.difference > 0), key=lambda case: -case.difference)
    losses = sorted((case for case in both if case.difference < 0), key=lambda case: case.difference)
    better = sum(case.difference > NOTABLE for case in both)
    worse = sum(case.difference < -NOTABLE for case in both)
    return Choice(_spread(wins, records, count), _spread(losses, records, count), better, worse, len(both))


def choose_found(cases: Sequence[Case], records: Sequence[ImageRecord], count: int) -> Choice:
    """Choose annotations that one system found, by the IoU of its mask; arguments as in `choose_masks`."""
    wins = [case for case in cases if case.first.prediction is None and case.second.prediction is not None]
    losses = [case for case in cases if case.first.prediction is not None and case.second.prediction is None]
    wins.sort(key=lambda case: -case.second.iou)
    losses.sort(key=lambda case: -case.first.iou)
    shown = [_spread(part, records, count) for part in (wins, losses)]
    return Choice(shown[0], shown[1], len(wins), len(losses), len(cases))


def _spread(cases: Sequence[Case], records: Sequence[ImageRecord], count: int) -> list[Case]:
    """The first cases that do not lie in the window of an earlier one."""
    chosen: list[Case] = []
    for case in cases:
        if len(chosen) >= count:
            break
        window = case_window(case, records)
        if all(case.image != other.image or apart(window, case_window(other, records)) for other in chosen):
            chosen.append(case)
    return chosen


def case_window(case: Case, records: Sequence[ImageRecord]) -> Window:
    """A square around the annotation, in pixels of its image."""
    item = records[case.image]
    return square_about(_corners(item.truth[case.truth].box), item.size)


def _corners(box: Box) -> Window:
    x, y, width, height = box
    return x, y, x + width, y + height


def instance_rows(systems: Sequence[System], score: float = 0.5, iou: float = 0.5) -> list[dict[str, str | float]]:
    """A row per annotation with its IoU in every system.

    Args:
        systems: Systems that were tested on the same images.
        score: Predictions with a lower score do not count.
        iou: Minimum IoU of a prediction with its annotation.

    Returns:
        Rows of ``image``, ``annotation`` (from 1), ``area``, then a column per system; NaN where it was not found.
    """
    found = {row.name: found_by(row.records, score, iou) for row in systems}
    rows: list[dict[str, str | float]] = []
    for image, item in enumerate(systems[0].records):
        for truth, entry in enumerate(item.truth):
            row: dict[str, str | float] = {"image": item.name, "annotation": truth + 1, "area": entry.area}
            for name, by_image in found.items():
                one = by_image[image][truth]
                row[name] = math.nan if one.prediction is None else one.iou
            rows.append(row)
    return rows


def mean_difference(cases: Sequence[Case]) -> float:
    """Mean difference of IoU over annotations that both systems found, NaN without any."""
    both = [c.difference for c in cases if c.first.prediction is not None and c.second.prediction is not None]
    return float(np.mean(both)) if both else math.nan
