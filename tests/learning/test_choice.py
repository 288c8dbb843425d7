"""What may be chosen: rules and restraints that harm next to nothing."""

from __future__ import annotations

import math

import pytest
import torch

from kemr_lightning.learning.choice import choose_reasoning, gain_figures, rank, restrained
from kemr_lightning.learning.examples import examples_of
from kemr_lightning.refinement.actions import Action
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.experiences import Experiences
from kemr_lightning.refinement.states import STATE_NAMES
from tests.learning.helpers import rods


def test_the_rule_forbids_what_harms_others() -> None:
    # Action 1 gains 0.1 where state 0 is 0 and loses 0.1 where it is 1; each group has both kinds.
    states = torch.zeros(80, len(STATE_NAMES))
    states[1::2, 0] = 1
    before = torch.full((80,), 0.8)
    after = torch.where(states[:, 0] == 0, 0.9, 0.7)
    groups = torch.arange(80) // 8
    experiences = Experiences(states, torch.ones(80, dtype=torch.int64), before, after, groups)
    _, decisions = choose_reasoning(experiences, [states], [after], before, groups)
    assert torch.equal(decisions, (states[:, 0] == 0).long())


def test_gain_figures_by_hand() -> None:
    figures = gain_figures(torch.tensor([0.5, 0.5, 0.5, 0.5]), torch.tensor([0.6, 0.4, 0.51, 0.5]))
    assert figures["iou_after"] == pytest.approx(0.5025)
    assert (figures["gained"], figures["lost"]) == (0.25, 0.25)


def test_few_harmed_goes_before_a_large_gain() -> None:
    brave = torch.tensor([0.1] * 97 + [-0.1] * 3)  # 3 % harmed
    careful = torch.tensor([0.03] * 20 + [0.0] * 79 + [-0.03])  # 1 % harmed, 20 gain for it
    timid = torch.tensor([0.03] * 5 + [0.01] * 94 + [-0.03])  # 1 % harmed, but only 5 gain for it
    assert rank(careful) > rank(brave)
    assert rank(careful) > rank(timid)
    assert rank(careful)[1] == pytest.approx((20 * 0.03 - 0.03) / 100)
    assert not rank(brave)[0]
    assert rank(brave)[1] == pytest.approx(-0.03)


def test_masks_that_only_grow_are_restrained_in_their_area() -> None:
    examples = examples_of([rods(0), rods(1)], 4)
    initial = [example.crop.crop(example.crop.prob) for example in examples]
    # Everything that was not quite impossible becomes part of the mask: no annotation is that large.
    swollen = [torch.where(prob > 0.02, 0.9, 0.1) for prob in initial]
    actions, results = restrained(examples, [Action("swell", CRFParams(), False)], [swollen])
    careful = actions[-1]
    assert careful.restraint.area < math.inf
    for before, mask in zip(initial, results[-1], strict=True):
        grown = int((mask >= 0.5).sum()) / int((before >= 0.5).sum())
        assert grown <= 1.03 + 0.01
