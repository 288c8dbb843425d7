"""Learn Neural Knowledge DNA from images with annotated masks.

What is fitted on which masks:

- The evidence network is cross-fitted over groups of images. Each mask is corrected by a network that was not trained
  on images of its group; the CRF is fitted to these corrected masks, and experiences are gathered from them.
- The CRF's six parameters are not cross-fitted: four fifths of the masks fit them, and one fifth selects the best fit.
- All masks become experiences. When experiences are consulted about an instance, those of its own group are left out.
- The restraints and the rule are selected on all masks.

Parameters, restraints and rule are too few numbers to memorise masks, but the figures of learning are slightly
optimistic.

Each fitted way to refine becomes several actions, from a bold one with the highest gain to a careful one that harms
almost no mask (`kemr_lightning.refinement.restraint`). Experiences choose between these actions and keeping the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kemr_lightning.core.errors import UserError
from kemr_lightning.learning.choice import choose_reasoning, gain_figures, restrained
from kemr_lightning.learning.examples import Example, examples_of, folds
from kemr_lightning.learning.fit_crf import STARTS, Fit, FitSettings, Unary, fit_crf
from kemr_lightning.learning.fit_evidence import cross_fit_evidence
from kemr_lightning.learning.learning_source import LearningSource
from kemr_lightning.learning.masked_images import MaskedImage
from kemr_lightning.learning.settings import LearnSettings
from kemr_lightning.refinement.actions import Action, act, unite_states
from kemr_lightning.refinement.dense_crf import DEFAULT_TOLERANCE
from kemr_lightning.refinement.evidence import EvidenceNet
from kemr_lightning.refinement.experiences import Experiences
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.reasoning import Reasoning
from kemr_lightning.refinement.states import CHANGE, change, describe_states

LEAST_IMAGES, LEAST_EXAMPLES = 2, 20
"""Minimum numbers of images and of matched instances to learn from."""

EVIDENCE_EXAMPLES = 12_800
"""Crops that the evidence network is trained on, all epochs together: about four times those of 74 metaphases."""

VALIDATION_EXAMPLES = 120
"""Approximate number of masks that the best fit of the CRF's parameters is selected on."""

VALIDATION_EVERY = 5
"""One example in this many is kept for validation of the CRF's parameters."""

PLAIN, CORRECTED = "crf", "evidence + crf"
"""Names of the ways to refine: the CRF alone, and on unaries that the evidence network has corrected."""

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the number of its finished steps, and the number of all its steps."""


@dataclass(frozen=True)
class Lesson:
    """What learning found out.

    Attributes:
        knowledge: The knowledge.
        fits: The CRF's fits by the name of the way to refine, best start first.
        figures: By action and, under ``"experiences"``, for the rule: see `gain_figures`; out of sample for the
            evidence network and the experiences, not for the CRF's parameters, the restraints and the rule. Then, by
            part of the data, those of the initial masks, see `LearningSource.figures`.
        evidence_curve: ``(fold, epoch, loss)`` as `cross_fit_evidence` reports them.
    """

    knowledge: Knowledge
    fits: Mapping[str, Sequence[Fit]]
    figures: Mapping[str, dict[str, float]]
    evidence_curve: Sequence[tuple[int, int, float]] = field(default_factory=list)

    @property
    def gain(self) -> float:
        """Mean IoU that the knowledge gains on the learning images."""
        chosen = self.figures["experiences"]
        return chosen["iou_after"] - chosen["iou_before"]


def learn(
    source: LearningSource, settings: LearnSettings, origin: Mapping[str, Any], progress: Progress | None = None
) -> Lesson:
    """Learn knowledge for refining a model's masks.

    Args:
        source: Images with the model's masks and the annotations.
        settings: See `LearnSettings`.
        origin: Where the masks come from, as the knowledge records it.
        progress: Called after each step of a stage.

    Returns:
        The knowledge and how it came about.

    Raises:
        UserError: There are too few images or matched instances.
        OneGroupError: All images belong to one group.
    """
    tell = progress or _tell_nobody
    examples = examples_of(source.cases, settings.margin)
    fold_of, count = _folds(source.cases, examples, settings)
    evidence, corrected, curve = None, None, list[tuple[int, int, float]]()
    if settings.evidence:
        evidence, corrected, curve = _learn_evidence(examples, fold_of, count, settings, tell)
    fits = {PLAIN: _fit_crf(examples, None, settings, PLAIN, tell)}
    if corrected is not None:
        fits[CORRECTED] = _fit_crf(examples, corrected, settings, CORRECTED, tell)
    free = [Action(name, found[0].params, name == CORRECTED) for name, found in fits.items()]
    crops = [example.crop for example in examples]
    results = [
        act(action, crops, None, "torch", DEFAULT_TOLERANCE, corrected if action.evidence else None) for action in free
    ]
    actions, results = restrained(examples, free, results)
    actions, experiences, reasoning, figures = _remember(source.cases, examples, actions, results)
    figures |= {f"initial masks of {part} images": own for part, own in source.figures.items()}
    counts = {"images": len(source.cases), "instances": len(examples)}
    origin = {**origin, **counts, "out_of_sample": figures}
    knowledge = Knowledge(tuple(actions), evidence, experiences, reasoning, settings.margin, origin)
    return Lesson(knowledge, fits, figures, curve)


class OneGroupError(UserError):
    """All images belong to one slide or case, perhaps because of the pattern that groups them."""


def _tell_nobody(*_: object) -> None:
    pass


def _folds(cases: Sequence[MaskedImage], examples: Sequence[Example], settings: LearnSettings) -> tuple[list[int], int]:
    """The fold of each example and the number of folds."""
    if len(cases) < LEAST_IMAGES or len(examples) < LEAST_EXAMPLES:
        raise UserError(
            f"there are {len(examples)} matched instances on {len(cases)} images, and learning needs {LEAST_EXAMPLES} "
            f"on at least {LEAST_IMAGES}. Give more annotated images, or a checkpoint trained on images of this kind "
            "(stain, polarity, size)"
        )
    parts = folds(cases, settings.folds, settings.seed)
    if len(parts) < 2:
        raise OneGroupError(
            "all images belong to one slide or case, and learning needs at least two. Give images of another one, or "
            "check the pattern that groups the images by their names"
        )
    fold_of = {case: number for number, part in enumerate(parts) for case in part}
    return [fold_of[example.case] for example in examples], len(parts)


def _learn_evidence(
    examples: Sequence[Example], fold_of: Sequence[int], count: int, settings: LearnSettings, tell: Progress
) -> tuple[EvidenceNet, list[Tensor], list[tuple[int, int, float]]]:
    """The network, each example's logits corrected out of sample, and the learning curve."""
    epochs = settings.evidence_epochs or max(2, round(EVIDENCE_EXAMPLES / len(examples)))
    curve: list[tuple[int, int, float]] = []

    def on_epoch(fold: int, epoch: int, loss: float) -> None:
        curve.append((fold, epoch, loss))
        tell("evidence network", len(curve), epochs * (count + 1))

    network, corrected = cross_fit_evidence(
        examples, fold_of, count, epochs, settings.seed, settings.evidence_width, on_epoch
    )
    return network, corrected, curve


def _fit_crf(
    examples: Sequence[Example], logits: Sequence[Tensor] | None, settings: LearnSettings, name: str, tell: Progress
) -> list[Fit]:
    """Fit the CRF; every fifth example helps to choose the step and the start.

    Annotators draw the outlines of some images tightly and of others loosely. If whole images were kept for validation,
    they would say more about their annotator than about the parameters; and six parameters cannot memorise
    images.
    """
    unaries = [
        Unary(example, example.crop.prob if logits is None else logits[index].sigmoid())
        for index, example in enumerate(examples)
    ]
    training = [unary for index, unary in enumerate(unaries) if index % VALIDATION_EVERY]
    validation = unaries[::VALIDATION_EVERY]
    # Evenly spaced ones, from all images: enough to distinguish parameter sets, in a fraction of the time.
    validation = validation[:: max(1, len(validation) // VALIDATION_EXAMPLES)]
    steps = 0

    def on_step() -> None:
        nonlocal steps
        steps += 1
        tell(f"CRF parameters ({name})", steps, len(STARTS) * settings.crf_steps)

    fit = FitSettings(settings.seed, settings.iterations, settings.crf_steps)
    return fit_crf(training, validation, fit, on_step=on_step)


def _remember(
    cases: Sequence[MaskedImage],
    examples: Sequence[Example],
    actions: Sequence[Action],
    results: Sequence[Sequence[Tensor]],
) -> tuple[list[Action], Experiences, Reasoning, dict[str, dict[str, float]]]:
    """Gather experiences and choose the rule.

    Returns:
        The actions, the one that gained most first; the experiences; the rule; the figures of actions and rule.
    """
    before = torch.tensor([example.iou(example.initial) for example in examples])
    after = [
        torch.tensor([example.iou(mask) for example, mask in zip(examples, masks, strict=True)]) for masks in results
    ]
    order = sorted(range(len(actions)), key=lambda number: -float(after[number].mean()))
    ordered, results, after = [actions[i] for i in order], [results[i] for i in order], [after[i] for i in order]
    states = _states(cases, examples, results)
    groups = torch.tensor([cases[example.case].group for example in examples])
    experiences = Experiences(
        torch.cat(states),
        torch.cat([torch.full((len(examples),), number) for number in range(1, len(ordered) + 1)]),
        before.repeat(len(ordered)),
        torch.cat(after),
        groups.repeat(len(ordered)),
    )
    reasoning, decisions = choose_reasoning(experiences, states, after, before, groups)
    decided = torch.stack([before, *after])[decisions, torch.arange(len(examples))]
    figures = {action.name: gain_figures(before, ious) for action, ious in zip(ordered, after, strict=True)}
    figures["experiences"] = gain_figures(before, decided)
    return ordered, experiences, reasoning, figures


def _states(
    cases: Sequence[MaskedImage], examples: Sequence[Example], results: Sequence[Sequence[Tensor]]
) -> list[Tensor]:
    """Per action, the ``(E, S)`` states of the examples, its change of each mask included."""
    base = torch.stack(
        [describe_states([example.crop], cases[example.case].initial[[example.index]])[0] for example in examples]
    )
    initial = [example.initial for example in examples]
    return [
        unite_states(base, [change(old, new) for old, new in zip(initial, masks, strict=True)], CHANGE)
        for masks in results
    ]
