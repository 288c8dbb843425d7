"""Actions of Neural Knowledge DNA: keep a mask, or refine it in one of the ways that were learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kemr_lightning.instances import Instances, Patch
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.dense_crf import CRFParams, refine_packed
from kemr_lightning.refinement.evidence import EvidenceNet, corrected_logits
from kemr_lightning.refinement.restraint import FREE, Restraint
from kemr_lightning.refinement.surroundings import Surroundings


@dataclass(frozen=True)
class Action:
    """One way to refine a mask.

    Attributes:
        name: For people.
        params: The CRF's parameters.
        evidence: Whether the evidence network corrects the unary first.
        restraint: How far it may take a mask.
    """

    name: str
    params: CRFParams
    evidence: bool
    restraint: Restraint = FREE

    @property
    def free(self) -> Action:
        """The same without restraint."""
        return replace(self, restraint=FREE)


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
        action: The way.
        crops: The instances.
        evidence: The network, needed if the action uses it.
        engine: Of the CRF.
        tolerance: Of the CRF.
        logits: The network's corrected logits where they are known already.

    Returns:
        ``(h, w)`` float32 probabilities on each instance's patch window.

    Raises:
        ValueError: The action needs a network that is not there.
    """
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
    refined = packed.unpack(refine_packed(packed, action.params, engine, tolerance))
    return [
        action.restraint(crop.crop(crop.prob), crop.crop(values)) for crop, values in zip(crops, refined, strict=True)
    ]


def act_all(
    actions: Sequence[Action],
    crops: Sequence[Surroundings],
    evidence: EvidenceNet | None,
    engine: str,
    tolerance: float,
) -> list[list[Tensor]]:
    """Refine all given instances in every way; what actions have in common is computed once.

    Args:
        actions: The ways.
        crops: The instances.
        evidence: As in `act`.
        engine: As in `act`.
        tolerance: As in `act`.

    Returns:
        Per action what `act` returns.
    """
    logits = None
    if evidence is not None and any(action.evidence for action in actions):
        logits = corrected_logits(evidence, crops)
    free: dict[tuple[CRFParams, bool], list[Tensor]] = {}
    results = []
    for action in actions:
        key = (action.params, action.evidence)
        if key not in free:
            free[key] = act(action.free, crops, evidence, engine, tolerance, logits)
        masks = zip(crops, free[key], strict=True)
        results.append([action.restraint(crop.crop(crop.prob), values) for crop, values in masks])
    return results


def with_masks(instances: Instances, masks: Sequence[Tensor]) -> Instances:
    """The same instances with new ``(h, w)`` probabilities on the same windows."""
    patches = [
        Patch(patch.x0, patch.y0, values.clone()) for patch, values in zip(instances.patches or [], masks, strict=True)
    ]
    return replace(instances, patches=patches)


def unite_states(states: Tensor, changes: Sequence[Tensor], column: int) -> Tensor:
    """States with an action's changes filled in: ``(N, S)`` and N scalars -> ``(N, S)``."""
    filled = states.clone()
    if len(changes):
        filled[:, column] = torch.stack(list(changes)).to(states)
    return filled
