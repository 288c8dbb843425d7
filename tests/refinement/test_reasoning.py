"""Decisions by the experiences of the instances most alike."""

from __future__ import annotations

import pytest
import torch

from kemr_lightning.refinement.experiences import Experiences
from kemr_lightning.refinement.reasoning import ExperienceIndex, Reasoning
from kemr_lightning.refinement.states import STATE_NAMES

WIDTH = len(STATE_NAMES)


def _experiences() -> Experiences:
    """One action that gained 0.1 on instances with state 0 near 0 and lost 0.1 on those near 10."""
    states = torch.zeros(40, WIDTH)
    states[20:, 0] = 10
    states[:, 1] = torch.arange(40) / 1000
    before = torch.full((40,), 0.8)
    after = torch.cat([torch.full((20,), 0.9), torch.full((20,), 0.7)])
    return Experiences(states, torch.ones(40, dtype=torch.int64), before, after, torch.arange(40) % 4)


def test_experiences_decide_by_the_likest_instances() -> None:
    experienced = ExperienceIndex(_experiences(), 2)
    asked = torch.zeros(2, WIDTH)
    asked[1, 0], asked[1, 1] = 10, 0.03
    gain, harm = experienced.expect(asked, 1, neighbours=5)
    assert gain.tolist() == pytest.approx([0.1, -0.1], abs=1e-6)
    assert harm.tolist() == [0.0, 1.0]
    assert experienced.decide([asked], Reasoning(neighbours=5)).tolist() == [1, 0]


def test_a_price_on_harm_forbids_an_action_that_gains_on_average() -> None:
    states = torch.zeros(10, WIDTH)
    before = torch.full((10,), 0.5)
    after = torch.tensor([0.9] * 8 + [0.4] * 2)  # mean gain +0.3, a fifth harmed
    experienced = ExperienceIndex(
        Experiences(states, torch.ones(10, dtype=torch.int64), before, after, torch.arange(10)), 2
    )
    asked = torch.zeros(1, WIDTH)
    # Worth 0.3 - 0.2 x price.
    assert experienced.decide([asked], Reasoning(10, 1.4)).tolist() == [1]
    assert experienced.decide([asked], Reasoning(10, 1.6)).tolist() == [0]


def test_own_images_can_be_left_out() -> None:
    states = torch.zeros(4, WIDTH)
    experiences = Experiences(
        states,
        torch.ones(4, dtype=torch.int64),
        torch.zeros(4),
        torch.tensor([1.0, 1.0, 0.2, 0.2]),
        torch.tensor([0, 0, 1, 1]),
    )
    experienced = ExperienceIndex(experiences, 2)
    gain, _ = experienced.expect(torch.zeros(2, WIDTH), 1, 4, images=torch.tensor([0, 1]))
    assert gain.tolist() == pytest.approx([0.2, 1.0])


def test_an_action_without_experiences_is_not_taken() -> None:
    experienced = ExperienceIndex(_experiences(), 3)
    asked = torch.zeros(1, WIDTH)
    assert experienced.decide([asked, asked], Reasoning(5)).tolist() == [1]
