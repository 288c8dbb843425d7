"""Learn Neural Knowledge DNA from images whose truth is known.

The evidence network is cross-fitted over groups of images, so that the CRF is fitted to, and experiences are gathered
from, corrected masks of images the network has not seen; experiences are asked with those of an image's own group left
out. The CRF's six parameters are not cross-fitted: four fifths of the masks fit them, the fifth chooses among the fits,
and all of them become experiences. Restraints and the rule are chosen on all of them, too. So few numbers hardly learn
masks by heart, but the figures of learning are not quite those of unseen images.

Each fitted way to refine becomes several actions, from a bold one that gains most to a careful one that harms next to
nothing (`kemr_lightning.refinement.restraint`). Experiences choose among them and keeping the mask.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kemr_lightning.core.errors import UserError
from kemr_lightning.learning.choice import choose_reasoning, gain_figures, restrained
from kemr_lightning.learning.examples import Case, Example, examples_of, folds
from kemr_lightning.learning.fit_crf import Fit, Unary, fit_crf
from kemr_lightning.learning.fit_evidence import fit_evidence
from kemr_lightning.refinement.actions import Action, act, unite_states
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.evidence import EvidenceNet, corrected_logits
from kemr_lightning.refinement.experiences import Experiences
from kemr_lightning.refinement.knowledge import Knowledge, from_params
from kemr_lightning.refinement.states import CHANGE, change, describe_states

logger = logging.getLogger(__name__)

EVIDENCE_EXAMPLES = 12_800
"""Crops that the evidence network is shown in all: about four times those of 74 metaphases."""

VALIDATION_EXAMPLES = 120
"""Masks that choose among the CRF's parameters."""

Progress = Callable[[str, int, int], None]
"""Told the stage's name, how many of its steps are done, and their number."""


@dataclass(frozen=True)
class LearnSettings:
    """Settings of learning.

    Attributes:
        folds: Parts for cross-fitting.
        evidence: Whether to learn an evidence network.
        evidence_epochs: Passes over the examples; None for as many as give `EVIDENCE_EXAMPLES`.
        evidence_width: Its channels.
        crf_steps: Gradient steps per start.
        iterations: Mean-field updates.
        margin: Pixels about a patch.
        seed: Of everything.
    """

    folds: int = 3
    evidence: bool = True
    evidence_epochs: int | None = None
    evidence_width: int = 16
    crf_steps: int = 40
    iterations: int = 5
    margin: int = 8
    seed: int = 0


@dataclass
class Lesson:
    """What learning found out beside the knowledge itself.

    Attributes:
        knowledge: The knowledge.
        fits: The CRF's fits by action name, best start first.
        evidence_curve: ``(fold, epoch, loss)``; the fold -1 is the final network on all examples.
        figures: Mean IoU gained, parts gaining and losing more than `HARM`, by action and for the rule; out of sample
            for the evidence network and the experiences, not for the CRF's parameters, the restraints and the rule.
        decisions: ``(E,)`` the rule's action per example.
    """

    knowledge: Knowledge
    fits: dict[str, list[Fit]]
    evidence_curve: list[tuple[int, int, float]] = field(default_factory=list)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    decisions: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))


def learn(
    cases: Sequence[Case], settings: LearnSettings, origin: dict[str, Any], progress: Progress | None = None
) -> Lesson:
    """Learn.

    Args:
        cases: Images with masks that the model predicted without having been trained on them.
        settings: See `LearnSettings`.
        origin: What the knowledge says about where it comes from.
        progress: See `Progress`.

    Returns:
        The knowledge and how it came about.

    Raises:
        UserError: Too few images or matched instances.
    """
    tell = progress or _say_nothing
    examples = examples_of(cases, settings.margin)
    if len(cases) < 2 or len(examples) < 20:
        raise UserError(
            f"task=learn found {len(examples)} matched instances on {len(cases)} images; it needs 20 on at least 2. "
            "Give more annotated images, or a checkpoint trained on images of this kind (stain, polarity, size)"
        )
    parts = folds(cases, settings.folds, settings.seed)
    if len(parts) < 2:
        raise UserError("task=learn needs images of at least two slides or cases. Check data.group_pattern")
    fold_of = {case: number for number, part in enumerate(parts) for case in part}
    fold = [fold_of[example.case] for example in examples]
    lesson = Lesson(from_params(CRFParams(iterations=settings.iterations)), {})

    evidence: EvidenceNet | None = None
    corrected: list[Tensor] | None = None
    if settings.evidence:
        evidence, corrected = _cross_fit_evidence(examples, fold, len(parts), settings, lesson, tell)

    actions = []
    for name, uses in (("crf", False), ("evidence + crf", True)):
        if uses and corrected is None:
            continue
        logits = corrected if uses else None
        fits = _fit_action(examples, logits, settings, name, tell)
        lesson.fits[name] = fits
        actions.append(Action(name, fits[0].params, uses))
    crops = [example.crop for example in examples]
    results = [act(a, crops, None, "torch", 0.01, corrected if a.evidence else None) for a in actions]
    actions, results = restrained(examples, actions, results)
    return _conclude(cases, examples, actions, results, evidence, settings, origin, lesson)


def _say_nothing(stage: str, done: int, total: int) -> None:
    del stage, done, total


def _cross_fit_evidence(
    examples: Sequence[Example],
    fold: Sequence[int],
    count: int,
    settings: LearnSettings,
    lesson: Lesson,
    tell: Progress,
) -> tuple[EvidenceNet, list[Tensor]]:
    """The network on all examples, and logits of every example by a network that has not seen its images."""
    corrected: list[Tensor] = [torch.empty(0)] * len(examples)
    epochs = settings.evidence_epochs or max(2, round(EVIDENCE_EXAMPLES / len(examples)))
    total = epochs * (count + 1)
    network: EvidenceNet | None = None
    for number in [*range(count), -1]:
        taught = [example for example, own in zip(examples, fold, strict=True) if own != number]
        done = epochs * (number if number >= 0 else count)

        def on_epoch(epoch: int, loss: float, number: int = number, done: int = done) -> None:
            lesson.evidence_curve.append((number, epoch, loss))
            tell("evidence network", done + epoch, total)

        network = fit_evidence(taught, epochs, settings.seed, settings.evidence_width, on_epoch=on_epoch)
        left_out = [index for index, own in enumerate(fold) if own == number]
        logits = corrected_logits(network, [examples[index].crop for index in left_out])
        for index, logit in zip(left_out, logits, strict=True):
            corrected[index] = logit
    assert network is not None
    return network, corrected


def _fit_action(
    examples: Sequence[Example],
    logits: Sequence[Tensor] | None,
    settings: LearnSettings,
    name: str,
    tell: Progress,
) -> list[Fit]:
    """Fit the CRF; every fifth example chooses the step and the start.

    Annotators draw the outlines of some images tight and of others loose, so that a few images left out whole say more
    about their annotator than about the parameters. Six of them do not learn images by heart.
    """
    unaries = [
        Unary(example, example.crop.prob if logits is None else logits[index].sigmoid())
        for index, example in enumerate(examples)
    ]
    training = [unary for index, unary in enumerate(unaries) if index % 5]
    validation = unaries[::5]
    # Every so many of them, from all images: enough to tell parameter sets apart, at a fraction of the time.
    validation = validation[:: max(1, len(validation) // VALIDATION_EXAMPLES)]
    steps = 0

    def on_step() -> None:
        nonlocal steps
        steps += 1
        tell(f"CRF parameters ({name})", steps, 3 * settings.crf_steps)

    return fit_crf(training, validation, settings.seed, settings.iterations, steps=settings.crf_steps, on_step=on_step)


def _conclude(
    cases: Sequence[Case],
    examples: Sequence[Example],
    actions: Sequence[Action],
    results: Sequence[Sequence[Tensor]],
    evidence: EvidenceNet | None,
    settings: LearnSettings,
    origin: dict[str, Any],
    lesson: Lesson,
) -> Lesson:
    """Gather experiences, choose the rule, put the knowledge together; the action that gained most comes first."""
    before = torch.tensor([example.iou(example.crop.crop(example.crop.prob)) for example in examples])
    after = [
        torch.tensor([example.iou(mask) for example, mask in zip(examples, masks, strict=True)]) for masks in results
    ]
    order = sorted(range(len(actions)), key=lambda number: -float(after[number].mean()))
    actions, results, after = [actions[i] for i in order], [results[i] for i in order], [after[i] for i in order]

    base = _states_of(cases, examples)
    initial = [example.crop.crop(example.crop.prob) for example in examples]
    states = [
        unite_states(base, [change(a, b) for a, b in zip(initial, masks, strict=True)], CHANGE) for masks in results
    ]
    groups = torch.tensor([cases[example.case].group for example in examples])
    experiences = Experiences(
        torch.cat(states),
        torch.cat([torch.full((len(examples),), number) for number in range(1, len(actions) + 1)]),
        before.repeat(len(actions)),
        torch.cat(after),
        groups.repeat(len(actions)),
    )
    reasoning, decisions = choose_reasoning(experiences, states, after, before, groups)
    for action, ious in zip(actions, after, strict=True):
        lesson.figures[action.name] = gain_figures(before, ious)
    decided = torch.stack([before, *after])[decisions, torch.arange(len(examples))]
    lesson.figures["experiences"] = gain_figures(before, decided)
    lesson.decisions = decisions
    lesson.knowledge = Knowledge(
        tuple(actions),
        evidence,
        experiences,
        reasoning,
        settings.margin,
        {**origin, "images": len(cases), "instances": len(examples), "out_of_sample": lesson.figures},
    )
    return lesson


def _states_of(cases: Sequence[Case], examples: Sequence[Example]) -> Tensor:
    rows = []
    for example in examples:
        initial = cases[example.case].initial
        rows.append(describe_states([example.crop], initial[[example.index]])[0])
    return torch.stack(rows)
