"""Choose, among restraints and among rules, what gains most while it harms next to nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from kemr_lightning.learning.examples import Example
from kemr_lightning.refinement.actions import Action
from kemr_lightning.refinement.experiences import HARM, Experienced, Experiences, Reasoning, best_action
from kemr_lightning.refinement.restraint import Restraint

NEIGHBOURS = (40, 80, 160, 320, 640)
PRICES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 1.0)
"""Of a harmed mask, see `Reasoning`."""

HARM_ALLOWED = 0.015
"""Part of the instances that a rule may harm on the learning images; a little below the 2 % that are promised."""

GAINED_PER_HARMED = 6.0
"""Instances that a rule has to gain for each one it harms; a little above the five that are promised."""

STEPS = (0.25, 0.5, 0.75, 1.0)
AREAS = (0.0, 0.01, 0.02, 0.03, math.inf)
RESTRAINT_PRICES = (0.0, 0.1, 0.2, 0.4, 0.8)


def restrained(
    examples: Sequence[Example], actions: Sequence[Action], results: Sequence[Sequence[Tensor]]
) -> tuple[list[Action], list[list[Tensor]]]:
    """Every action in several restraints, from bold to careful: what is worth most at rising prices of a harmed mask.

    Args:
        examples: What to judge by.
        actions: Free ones.
        results: Their masks, per action one ``(h, w)`` per example.

    Returns:
        Restrained actions, named after action and restraint, and their masks.
    """
    initial = [example.crop.crop(example.crop.prob) for example in examples]
    before = _ious(examples, initial)
    chosen_actions, chosen_results = [], []
    for action, masks in zip(actions, results, strict=True):

        def bound(restraint: Restraint, masks: Sequence[Tensor] = masks) -> list[Tensor]:
            return [restraint(old, new) for old, new in zip(initial, masks, strict=True)]

        worth = []
        for restraint in (Restraint(step, area) for step, area in product(STEPS, AREAS)):
            won = _ious(examples, bound(restraint)) - before
            worth.append((restraint, float(won.mean()), float((won < -HARM).float().mean())))
        best = [max(worth, key=lambda row, p=price: row[1] - p * row[2])[0] for price in RESTRAINT_PRICES]  # type: ignore[misc]
        for restraint in dict.fromkeys(best):
            chosen_actions.append(replace(action, name=f"{action.name}, {restraint}", restraint=restraint))
            chosen_results.append(bound(restraint))
    return chosen_actions, chosen_results


def _ious(examples: Sequence[Example], masks: Sequence[Tensor]) -> Tensor:
    return torch.tensor([example.iou(mask) for example, mask in zip(examples, masks, strict=True)])


def rank(won: Tensor) -> tuple[bool, float]:
    """Larger is better: whether so few are harmed as is allowed, then the mean gain, or how few are harmed.

    Args:
        won: ``(E,)`` IoU gained.
    """
    harmed, gained = float((won < -HARM).float().mean()), float((won > HARM).float().mean())
    allowed = harmed <= HARM_ALLOWED and gained >= GAINED_PER_HARMED * harmed
    return allowed, float(won.mean()) if allowed else -harmed


def choose_reasoning(
    experiences: Experiences, states: list[Tensor], after: Sequence[Tensor], before: Tensor, groups: Tensor
) -> tuple[Reasoning, Tensor]:
    """The rule that gains most of those allowed (see `rank`), each instance judged without its own group.

    Args:
        experiences: All of them.
        states: Per action, ``(E, S)``.
        after: Per action, ``(E,)`` IoU.
        before: ``(E,)`` IoU.
        groups: ``(E,)`` group numbers.

    Returns:
        The rule and its decisions ``(E,)``. Where none harms so few, the one that harms fewest.
    """
    experienced = Experienced(experiences, len(states) + 1)
    ious = torch.stack([before, *after])
    best: tuple[tuple[bool, float], Reasoning, Tensor] | None = None
    for neighbours in NEIGHBOURS:
        expected = [
            experienced.expect(state, number, neighbours, groups) for number, state in enumerate(states, start=1)
        ]
        for price in PRICES:
            rule = Reasoning(neighbours, price)
            decisions = best_action(expected, rule)
            standing = rank(ious[decisions, torch.arange(len(before))] - before)
            if best is None or standing > best[0]:
                best = (standing, rule, decisions)
    assert best is not None
    return best[1], best[2]


def gain_figures(before: Tensor, after: Tensor) -> dict[str, float]:
    """Mean IoU before and after, and the parts that gained and lost more than `HARM`."""
    won = after - before
    return {
        "iou_before": float(before.mean()),
        "iou_after": float(after.mean()),
        "gained": float((won > HARM).float().mean()),
        "lost": float((won < -HARM).float().mean()),
    }
