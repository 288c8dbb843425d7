"""Choose the restraints and the rule with the highest gain among those that harm almost nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from kemr_lightning.learning.examples import Example
from kemr_lightning.refinement.actions import Action
from kemr_lightning.refinement.experiences import HARM, Experiences
from kemr_lightning.refinement.reasoning import ExperienceIndex, Reasoning, best_action
from kemr_lightning.refinement.restraint import Restraint

NEIGHBOURS = (40, 80, 160, 320, 640)
"""Numbers of neighbours that are tried, see `Reasoning`."""

PRICES = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6, 1.0)
"""Prices of a harmed mask that are tried, see `Reasoning`."""

HARM_ALLOWED = 0.015
"""Share of the instances that a rule may harm on the learning images; a little below the 2 % on unseen images that
docs/refinement.md measures knowledge against, because figures on the learning images are optimistic."""

GAINED_PER_HARMED = 6.0
"""Instances that must gain for each one that a rule harms; likewise a little above the five on unseen images."""

STEPS = (0.25, 0.5, 0.75, 1.0)
AREAS = (0.0, 0.01, 0.02, 0.03, math.inf)
"""Restraints that are tried: all pairs of these, see `Restraint`."""

RESTRAINT_PRICES = (0.0, 0.1, 0.2, 0.4, 0.8)
"""Prices of a harmed mask; for each of them the best restraint is kept."""


def restrained(
    examples: Sequence[Example], actions: Sequence[Action], results: Sequence[Sequence[Tensor]]
) -> tuple[list[Action], list[list[Tensor]]]:
    """Every action under several restraints, from bold to careful: the best one for each price of a harmed mask.

    Args:
        examples: What to judge by.
        actions: Unrestrained ones.
        results: Per action, one ``(h, w)`` refined mask for each example.

    Returns:
        Restrained actions, named after action and restraint, and their masks.
    """
    initial = [example.initial for example in examples]
    before = _ious(examples, initial)
    chosen_actions, chosen_results = [], []
    for action, masks in zip(actions, results, strict=True):
        for restraint in _restraints_worth_most(examples, initial, masks, before):
            chosen_actions.append(replace(action, name=f"{action.name}, {restraint}", restraint=restraint))
            chosen_results.append(_bound(restraint, initial, masks))
    return chosen_actions, chosen_results


def _restraints_worth_most(
    examples: Sequence[Example], initial: Sequence[Tensor], masks: Sequence[Tensor], before: Tensor
) -> list[Restraint]:
    """The different restraints among those that are worth most at each of `RESTRAINT_PRICES`."""
    gained: dict[Restraint, float] = {}
    harmed: dict[Restraint, float] = {}
    for restraint in (Restraint(step, area) for step, area in product(STEPS, AREAS)):
        gain = _ious(examples, _bound(restraint, initial, masks)) - before
        gained[restraint], harmed[restraint] = float(gain.mean()), float((gain < -HARM).float().mean())

    def best_at(price: float) -> Restraint:
        return max(gained, key=lambda restraint: gained[restraint] - price * harmed[restraint])

    return list(dict.fromkeys(best_at(price) for price in RESTRAINT_PRICES))


def _bound(restraint: Restraint, initial: Sequence[Tensor], masks: Sequence[Tensor]) -> list[Tensor]:
    """The masks under a restraint."""
    return [restraint(old, new) for old, new in zip(initial, masks, strict=True)]


def _ious(examples: Sequence[Example], masks: Sequence[Tensor]) -> Tensor:
    return torch.tensor([example.iou(mask) for example, mask in zip(examples, masks, strict=True)])


def rank(gain: Tensor) -> tuple[bool, float]:
    """How good a rule's outcome is; larger tuples are better.

    Args:
        gain: ``(E,)`` IoU gained.

    Returns:
        Whether the rule harms no more than is allowed, and then its mean gain; for a rule that harms more, minus the
        share that it harms.
    """
    harmed, gained = float((gain < -HARM).float().mean()), float((gain > HARM).float().mean())
    allowed = harmed <= HARM_ALLOWED and gained >= GAINED_PER_HARMED * harmed
    return allowed, float(gain.mean()) if allowed else -harmed


def choose_reasoning(
    experiences: Experiences, states: list[Tensor], after: Sequence[Tensor], before: Tensor, groups: Tensor
) -> tuple[Reasoning, Tensor]:
    """The allowed rule that gains most (see `rank`), judging each instance without the experiences of its own group.

    Args:
        experiences: All experiences.
        states: Per action, ``(E, S)``.
        after: Per action, ``(E,)`` IoU with the annotation after it.
        before: ``(E,)`` IoU with the annotation before.
        groups: ``(E,)`` group numbers.

    Returns:
        The rule and its decisions ``(E,)``: 0 keeps the mask, n takes action n. If no rule is allowed, it is the one
        that harms fewest.
    """
    experienced = ExperienceIndex(experiences, len(states) + 1)
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
    """What became of instances.

    Args:
        before: ``(E,)`` IoU before.
        after: ``(E,)`` IoU after.

    Returns:
        Mean IoU ``iou_before`` and ``iou_after``; the shares that ``gained`` and ``lost`` more than `HARM`.
    """
    gain = after - before
    return {
        "iou_before": float(before.mean()),
        "iou_after": float(after.mean()),
        "gained": float((gain > HARM).float().mean()),
        "lost": float((gain < -HARM).float().mean()),
    }
