from __future__ import annotations

import pytest
import torch

from kemr_lightning.core.instances import Patch
from kemr_lightning.learning.examples import examples_of, folds, on_window
from tests.learning.helpers import rods


def test_examples_pair_predictions_with_their_annotations() -> None:
    case = rods(0)
    examples = examples_of([case], 4)
    assert [example.index for example in examples] == list(range(6))
    example = examples[2]
    assert example.truth_area == 140
    assert float(example.target.sum()) == 140
    # The dilated and blurred prediction holds the whole rod: its IoU is 140 over its own area.
    area = float((example.crop.prob >= 0.5).sum())
    assert example.iou(example.crop.crop(example.crop.prob)) == pytest.approx(140 / area)
    assert example.iou(torch.zeros(30, 17)) == 0.0


def test_iou_counts_what_lies_outside_the_patch() -> None:
    case = rods(1, count=1)
    patch = (case.initial.patches or [])[0]
    case.initial.patches = [Patch(patch.x0, patch.y0, patch.values[:20])]  # the lower ten rows are cut off
    example = examples_of([case], 0)[0]
    truth = (case.truth.patches or [])[0]
    inside = 7 * (patch.y0 + 20 - truth.y0)
    assert example.iou(example.crop.crop(example.target)) == pytest.approx(inside / 140)


def test_window_of_a_patch_that_does_not_reach() -> None:
    patch = Patch(10, 10, torch.ones(4, 4, dtype=torch.bool))
    assert float(on_window(patch, (0, 0, 5, 5)).sum()) == 0
    assert float(on_window(patch, (12, 8, 20, 12)).sum()) == 4


def test_folds_keep_groups_together() -> None:
    cases = [rods(seed, count=1) for seed in (3, 3, 4, 5, 5, 6)]
    parts = folds(cases, 3, seed=0)
    assert sorted(index for part in parts for index in part) == list(range(6))
    for part in parts:
        assert (0 in part) == (1 in part)
        assert (3 in part) == (4 in part)
    assert len(folds(cases, 10, seed=0)) == 4
