"""Cases are chosen by the rule: the largest differences, as many losses as wins, one of each place."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kemr_lightning.comparison.cases import (
    case_window,
    cases_of,
    choose_found,
    choose_masks,
    instance_rows,
    mean_difference,
)
from tests.comparison.helpers import box_mask, one_image, system

TRUTH = [box_mask(0, 0, 20, 5), box_mask(30, 0, 50, 5), box_mask(0, 20, 20, 25), box_mask(30, 20, 50, 25)]


def cut(index: int, columns: int) -> np.ndarray:
    """An annotation without its first columns: its IoU with the annotation is 1 - columns / 20."""
    mask = TRUTH[index].copy()
    mask[:, mask.any(axis=0).argmax() : mask.any(axis=0).argmax() + columns] = False
    return mask


# IoU of the first: 0.9, 0.8, not found, 0.7; of the second: 0.95, 0.6, 0.9, not found (its score is too low).
FIRST = [one_image(TRUTH, [cut(0, 2), cut(1, 4), cut(3, 6)], [0.9, 0.9, 0.9])]
SECOND = [one_image(TRUTH, [cut(0, 1), cut(1, 8), cut(2, 2), cut(3, 0)], [0.9, 0.9, 0.9, 0.4])]
CASES = cases_of(system("A", FIRST), system("B", SECOND))


def test_every_annotation_is_a_case() -> None:
    assert [(c.image, c.truth) for c in CASES] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert [c.first.iou for c in CASES] == pytest.approx([0.9, 0.8, 0.0, 0.7])
    assert [c.second.iou for c in CASES] == pytest.approx([0.95, 0.6, 0.9, 0.0])
    assert [c.first.prediction for c in CASES] == [0, 1, None, 2]
    assert mean_difference(CASES) == pytest.approx((0.05 - 0.2) / 2)


def test_masks_are_compared_where_both_have_found_one() -> None:
    choice = choose_masks(CASES, FIRST, 4)
    assert [c.truth for c in choice.wins] == [0]
    assert [c.truth for c in choice.losses] == [1]
    assert (choice.better, choice.worse, choice.compared) == (1, 1, 2)


def test_what_one_found_alone() -> None:
    choice = choose_found(CASES, FIRST, 4)
    assert [c.truth for c in choice.wins] == [2]
    assert [c.truth for c in choice.losses] == [3]
    assert (choice.better, choice.worse, choice.compared) == (1, 1, 4)


def test_the_largest_come_first_and_places_are_not_repeated() -> None:
    near = [box_mask(0, 0, 20, 5), box_mask(2, 6, 22, 11), box_mask(30, 30, 50, 35)]

    def less(mask: np.ndarray, columns: int) -> np.ndarray:
        made = mask.copy()
        start = made.any(axis=0).argmax()
        made[:, start : start + columns] = False
        return made

    first = [one_image(near, [less(m, 8) for m in near], [0.9] * 3)]
    second = [one_image(near, [less(near[0], 3), less(near[1], 1), less(near[2], 5)], [0.9] * 3)]
    cases = cases_of(system("A", first), system("B", second))
    # The second annotation gains the most; the first lies in its window.
    assert [c.truth for c in choose_masks(cases, first, 4).wins] == [1, 2]
    assert [c.truth for c in choose_masks(cases, first, 1).wins] == [1]
    x0, y0, x1, y1 = case_window(cases[1], first)
    assert x1 - x0 == pytest.approx(y1 - y0)
    assert min(x0, y0) >= 0


def test_a_row_per_annotation() -> None:
    rows = instance_rows([system("A", FIRST), system("B", SECOND)])
    assert [row["annotation"] for row in rows] == [1, 2, 3, 4]
    assert rows[0] == {
        "image": "a.png",
        "annotation": 1,
        "area": 100.0,
        "A": pytest.approx(0.9),
        "B": pytest.approx(0.95),
    }
    assert math.isnan(float(rows[2]["A"]))
