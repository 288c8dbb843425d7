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

NEIGHBOURS = (20, 40, 80, 160)
LEAST_GAIN = (0.0, 0.002, 0.005)
MOST_HARM = (0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 1.0)
HARM_ALLOWED = 0.015
"""Part of the instances that a rule may harm on the learning images; a little below the 2 % that are promised."""

GAINED_PER_HARMED = 6.0
"""Instances that a rule has to gain for each one it harms; a little above the five that are promised."""

STEPS = (0.5, 0.75, 1.0)
AREAS = (0.0, 0.01, 0.02, 0.03, math.inf)


def restrained(
    examples: Sequence[Example], actions: Sequence[Action], results: Sequence[Sequence[Tensor]]
) -> tuple[list[Action], list[list[Tensor]]]:
    """Two restraints of every action, chosen by what they do to the examples.

    Args:
        examples: What to judge by.
        actions: Free ones.
        results: Their masks, per action one ``(h, w)`` per example.

    Returns:
        Bold and careful actions and their masks. The careful one gains most of those that are `allowed`, or harms
        fewest; where it is also the bold one, there is only one.
    """
    before = torch.tensor([example.iou(example.crop.crop(example.crop.prob)) for example in examples])
    initial = [example.crop.crop(example.crop.prob) for example in examples]
    chosen_actions, chosen_results = [], []
    for action, masks in zip(actions, results, strict=True):
        trials = []
        for restraint in (Restraint(step, area) for step, area in product(STEPS, AREAS)):
            bound = [restraint(old, new) for old, new in zip(initial, masks, strict=True)]
            won = torch.tensor([e.iou(mask) for e, mask in zip(examples, bound, strict=True)]) - before
            trials.append((restraint, bound, won))
        bold = max(trials, key=lambda trial: float(trial[2].mean()))
        careful = max(trials, key=lambda trial: rank(trial[2]))
        for kind, (restraint, bound, _) in (("bold", bold), ("careful", careful)):
            if kind == "bold" or restraint != bold[0]:
                chosen_actions.append(replace(action, name=f"{kind} {action.name}", restraint=restraint))
                chosen_results.append(bound)
    return chosen_actions, chosen_results


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
        for gain, harm in product(LEAST_GAIN, MOST_HARM):
            rule = Reasoning(neighbours, gain, harm)
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
