from __future__ import annotations

import math

import pytest
import torch

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.refinement.states import CHANGE, STATE_NAMES, change, describe_states
from kemr_lightning.refinement.surroundings import surroundings


def test_states_of_a_rectangle_by_hand() -> None:
    image = torch.full((40, 60), 20, dtype=torch.uint8)
    image[10:20, 10:50] = 148
    values = torch.ones(10, 40)
    boxes = torch.tensor([[10.0, 10, 50, 20]])
    instances = Instances(
        (40, 60),
        boxes,
        torch.tensor([0.75]),
        torch.ones(1, dtype=torch.int64),
        [Patch(10, 10, values)],
        torch.tensor([0.125]),
    )
    state = dict(
        zip(STATE_NAMES, describe_states(surroundings(image, instances, 5), instances)[0].tolist(), strict=True)
    )
    assert state["log_area"] == pytest.approx(math.log(400), abs=1e-5)
    # A w x h rectangle of unit squares has variances w²/12 and h²/12: the ratio of axes is w / h.
    assert state["elongation"] == pytest.approx(math.log(4), abs=1e-4)
    assert state["confidence"] == 1.0
    assert state["contrast"] == pytest.approx(128 / 64, abs=0.02)
    assert state["overlap"] == 0.0
    assert state["disagreement"] == 0.125
    assert state["score"] == 0.75
    assert state["change"] == 0.0
    assert STATE_NAMES[CHANGE] == "change"


def test_overlap_is_the_part_that_a_neighbour_claims() -> None:
    image = torch.zeros(20, 40, dtype=torch.uint8)
    patches = [Patch(0, 0, torch.ones(10, 20)), Patch(15, 0, torch.ones(10, 20))]
    boxes = torch.tensor([[0.0, 0, 20, 10], [15.0, 0, 35, 10]])
    instances = Instances((20, 40), boxes, torch.ones(2), torch.ones(2, dtype=torch.int64), patches)
    states = describe_states(surroundings(image, instances, 2), instances)
    assert states[:, STATE_NAMES.index("overlap")].tolist() == [0.25, 0.25]
    assert bool(torch.isfinite(states).all())


def test_change_is_one_minus_iou() -> None:
    before, after = torch.zeros(4, 4), torch.zeros(4, 4)
    before[:2], after[1:3] = 1, 1
    assert float(change(before, after)) == pytest.approx(2 / 3)
    assert float(change(torch.zeros(3, 3), torch.zeros(3, 3))) == 0


def test_an_empty_mask_has_finite_states() -> None:
    image = torch.zeros(10, 10, dtype=torch.uint8)
    instances = Instances(
        (10, 10), torch.zeros(1, 4), torch.ones(1), torch.ones(1, dtype=torch.int64), [Patch(2, 2, torch.zeros(4, 4))]
    )
    assert bool(torch.isfinite(describe_states(surroundings(image, instances, 2), instances)).all())
