"""Kinds of errors on hand-drawn squares, and outlines against brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.metrics.matching import boundary_f, match, match_boxes, summarise
from kemr_lightning.metrics.records import record
from kemr_lightning.metrics.segmentation import counted
from tests.metrics.helpers import boxes_only, of_squares, with_crowds

Item = tuple[int, int, int, int, float, int]


def of_boxes(*items: Item) -> Instances:
    """Filled boxes ``(x0, y0, x1, y1, score, label)`` on an image of 100 x 100."""
    return Instances(
        (100, 100),
        torch.tensor([item[:4] for item in items], dtype=torch.float32).reshape(-1, 4),
        torch.tensor([item[4] for item in items], dtype=torch.float32),
        torch.tensor([item[5] for item in items], dtype=torch.int64),
        [Patch(x0, y0, torch.ones((y1 - y0, x1 - x0), dtype=torch.bool)) for x0, y0, x1, y1, _, _ in items],
    )


def test_every_kind_by_hand() -> None:
    truth = of_boxes(
        (0, 0, 10, 20, 1, 1),  # matched
        (20, 0, 30, 20, 1, 1),  # merged with the next
        (30, 0, 40, 20, 1, 1),
        (50, 0, 60, 40, 1, 1),  # split in two
        (70, 0, 80, 20, 1, 1),  # mislabelled
        (70, 40, 80, 60, 1, 1),  # missed; overlaps the last
        (70, 55, 80, 75, 1, 1),  # missed
    )
    predictions = of_boxes(
        (0, 0, 10, 18, 0.9, 1),
        (0, 0, 10, 20, 0.8, 1),  # duplicate
        (20, 0, 40, 20, 0.9, 1),  # half of each: at IoU 0.5 of both, so it takes the first
        (50, 0, 60, 20, 0.7, 1),
        (50, 20, 60, 40, 0.7, 1),
        (70, 0, 80, 20, 0.9, 2),
        (0, 80, 10, 100, 0.9, 1),  # false
        (70, 40, 80, 60, 0.4, 1),  # below the score
    )
    found = match(record(predictions, truth, 1), iou=0.55)
    assert found.truth == ["matched", "merged", "merged", "split", "mislabelled", "missed", "missed"]
    assert found.predictions == [
        "matched",
        "duplicate",
        "merging",
        "splitting",
        "splitting",
        "mislabelled",
        "false",
        "unsure",
    ]
    assert found.overlapped == [False] * 5 + [True, True]
    assert [(p.prediction, p.truth, p.iou) for p in found.pairs] == [(0, 0, pytest.approx(0.9))]
    summary = summarise([found])
    assert summary["annotations"] == {"matched": 1, "merged": 2, "split": 1, "mislabelled": 1, "missed": 2}
    assert summary["mean_iou"] == pytest.approx(90)
    assert summary["overlapped"]["annotations"] == 2
    assert summary["overlapped"]["found"] == 0
    assert summary["isolated"] == {
        "annotations": 5,
        "found": pytest.approx(20),
        "mean_iou": pytest.approx(90),
        "boundary_f": summary["boundary_f"],
    }
    assert np.isnan(summary["overlapped"]["boundary_f"]["1px"])
    assert np.isnan(summary["overlapped"]["mean_iou"])


def test_a_matched_prediction_that_swallows_a_neighbour() -> None:
    truth = of_boxes((0, 0, 10, 20, 1, 1), (10, 0, 16, 20, 1, 1))
    found = match(record(of_boxes((0, 0, 15, 20, 0.9, 1)), truth, 1))
    assert found.truth == ["matched", "merged"]
    assert found.predictions == ["matched"]


@pytest.mark.parametrize("cut", [20, 24, 30])
def test_a_piece_beside_the_piece_that_was_matched(cut: int) -> None:
    """Chromosomes cut at a half or beyond: the larger piece is a match by IoU, the other neither false nor double."""
    truth = of_boxes((0, 0, 10, 40, 1, 1))
    pieces = of_boxes((0, 0, 10, cut, 0.9, 1), (0, cut, 10, 40, 0.8, 1))
    found = match(record(pieces, truth, 1))
    assert found.truth == ["matched"]
    assert found.predictions == ["matched", "splitting"]
    # What lies on the same pixels as the match is not a piece.
    upon = match(record(of_boxes((0, 0, 10, 40, 0.9, 1), (0, 0, 10, 30, 0.8, 1), (0, 0, 10, 9, 0.7, 1)), truth, 1))
    assert upon.predictions == ["matched", "duplicate", "false"]


def test_empty_sides() -> None:
    nothing, one = Instances.empty((100, 100)), of_boxes((0, 0, 10, 20, 1, 1))
    assert match(record(nothing, one, 1)).truth == ["missed"]
    assert match(record(one, nothing, 1)).predictions == ["false"]
    summary = summarise([match(record(nothing, nothing, 1))])
    assert summary["annotations"] == {}
    assert np.isnan(summary["mean_iou"])


def brute_force(a: np.ndarray, b: np.ndarray, tolerance: float) -> float:
    def outline(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~core)

    p, q = outline(a), outline(b)
    distance = np.sqrt(((p[:, None] - q[None]) ** 2).sum(-1))
    precision, recall = (distance.min(1) <= tolerance).mean(), (distance.min(0) <= tolerance).mean()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize("seed", range(5))
def test_boundary_f_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = np.zeros((30, 30), dtype=bool), np.zeros((30, 30), dtype=bool)
    a[5:20, 0:12] = rng.random((15, 12)) < 0.9
    b[7:22, 1:14] = rng.random((15, 13)) < 0.9
    scores = boundary_f(Patch(0, 5, torch.from_numpy(a[5:20, 0:12])), Patch(1, 7, torch.from_numpy(b[7:22, 1:14])))
    assert scores == pytest.approx([brute_force(a, b, 1), brute_force(a, b, 2)])


def test_boundary_f_of_shifted_and_empty_masks() -> None:
    square = Patch(10, 10, torch.ones(10, 10))
    assert boundary_f(square, square) == (1.0, 1.0)
    near, far = boundary_f(square, Patch(12, 10, torch.ones(10, 10)))
    assert near < far == 1.0
    empty = Patch(0, 0, torch.zeros(1, 1))
    assert boundary_f(square, empty) == (0.0, 0.0)
    assert boundary_f(empty, empty) == (1.0, 1.0)


def test_wrong_predictions_on_crowds_do_not_count() -> None:
    truth = of_squares((0, 0, 1, 1))
    crowds = of_squares((20, 20, 1, 1), (35, 0, 1, 2))
    predictions = of_squares((0, 0, 0.9, 1), (22, 22, 0.8, 1), (36, 0, 0.8, 1), (21, 20, 0.2, 1))
    for masks in (True, False):
        sides = [truth, predictions] if masks else [boxes_only(truth), boxes_only(predictions)]
        item = record(sides[1], with_crowds(sides[0], crowds), 1)
        found = match(item) if masks else match_boxes(item)
        # The third lies on a crowd of another class; the fourth's score is too low anyway.
        assert found.predictions == ["matched", "ignored", "false", "unsure"]
        assert [entry.score for entry in counted(item, masks)] == pytest.approx([0.9, 0.8])
