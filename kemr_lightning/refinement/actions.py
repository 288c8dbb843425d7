"""Actions of Neural Knowledge DNA: keep a mask, or refine it in one of the ways that were learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.refinement.crops import Crops, moved
from kemr_lightning.refinement.dense_crf import CRFParams, refine_packed
from kemr_lightning.refinement.evidence import EvidenceNet, corrected_logits
from kemr_lightning.refinement.restraint import FREE, Restraint
from kemr_lightning.refinement.surroundings import Surroundings


@dataclass(frozen=True)
class Action:
    """One way to refine a mask.

    Attributes:
        name: Its name in tables and messages.
        params: The CRF's parameters.
        evidence: Whether the evidence network corrects the unary first.
        restraint: How far the action may take a mask.
    """

    name: str
    params: CRFParams
    evidence: bool
    restraint: Restraint = FREE


def act(
    action: Action,
    crops: Sequence[Surroundings],
    evidence: EvidenceNet | None,
    engine: str,
    tolerance: float,
    logits: Sequence[Tensor] | None = None,
) -> list[Tensor]:
    """Refine all given instances in one way.

    Args:
        action: How to refine them.
        crops: The instances.
        evidence: The evidence network; needed if the action uses it and ``logits`` are not given.
        engine: The CRF's engine, a name in `ENGINES`.
        tolerance: Intended largest difference of a probability from the exact mean field.
        logits: The network's corrected logits, if they are known already.

    Returns:
        ``(h, w)`` float32 probabilities on each instance's patch window, on the CPU.

    Raises:
        ValueError: The action needs the evidence network, and there is none.
    """
    refined = _freely(action, crops, evidence, engine, tolerance, logits)
    return [action.restraint(old, new) for old, new in zip(initial_masks(crops), refined, strict=True)]


def initial_masks(crops: Sequence[Surroundings]) -> list[Tensor]:
    """``(h, w)`` float32 initial probabilities on each instance's patch window, on the CPU."""
    return moved([crop.crop(crop.prob) for crop in crops], "cpu")


def _freely(
    action: Action,
    crops: Sequence[Surroundings],
    evidence: EvidenceNet | None,
    engine: str,
    tolerance: float,
    logits: Sequence[Tensor] | None,
) -> list[Tensor]:
    """`act` without restraint. The results come to the CPU in one copy, because restraints and states read each."""
    if not crops:
        return []
    if action.evidence:
        if logits is None:
            if evidence is None:
                raise ValueError(f"action {action.name!r} needs an evidence network")
            logits = corrected_logits(evidence, crops)
        probabilities = [logit.sigmoid() for logit in logits]
    else:
        probabilities = [crop.prob for crop in crops]
    packed = Crops.pack([crop.intensity for crop in crops], probabilities)
    refined = packed.unpack(refine_packed(packed, action.params, engine, tolerance).cpu())
    return [crop.crop(values) for crop, values in zip(crops, refined, strict=True)]


def act_all(
    actions: Sequence[Action],
    crops: Sequence[Surroundings],
    evidence: EvidenceNet | None,
    engine: str,
    tolerance: float,
) -> list[list[Tensor]]:
    """Refine all given instances with each of the actions; what these have in common is computed once.

    Args:
        actions: The actions.
        crops: The instances.
        evidence: As in `act`.
        engine: As in `act`.
        tolerance: As in `act`.

    Returns:
        For each action, what `act` returns.
    """
    logits = None
    if evidence is not None and any(action.evidence for action in actions):
        logits = corrected_logits(evidence, crops)
    free: dict[tuple[CRFParams, bool], list[Tensor]] = {}
    for action in actions:
        key = (action.params, action.evidence)
        if key not in free:
            free[key] = _freely(action, crops, evidence, engine, tolerance, logits)
    initial = initial_masks(crops)
    return [
        [action.restraint(old, new) for old, new in zip(initial, free[action.params, action.evidence], strict=True)]
        for action in actions
    ]


def with_masks(instances: Instances, masks: Sequence[Tensor]) -> Instances:
    """Give instances new ``(h, w)`` probabilities on the same windows, on their patches' device."""
    before = instances.patches or []
    there = moved(masks, before[0].values.device) if before else []
    patches = [Patch(patch.x0, patch.y0, values.clone()) for patch, values in zip(before, there, strict=True)]
    return replace(instances, patches=patches)


def unite_states(states: Tensor, changes: Sequence[Tensor], column: int) -> Tensor:
    """Fill a column of ``(N, S)`` states with N scalars, in a copy."""
    filled = states.clone()
    if len(changes):
        filled[:, column] = torch.stack(list(changes)).to(states)
    return filled
