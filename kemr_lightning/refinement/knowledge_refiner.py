"""A refiner that decides for each instance, by Neural Knowledge DNA, whether and how to refine its mask."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from kemr_lightning.core.instances import Instances
from kemr_lightning.refinement.actions import act, act_all, initial_masks, unite_states, with_masks
from kemr_lightning.refinement.dense_crf import DEFAULT_TOLERANCE, check_engine, check_probability, luma
from kemr_lightning.refinement.engines import DEFAULT_ENGINE
from kemr_lightning.refinement.evidence import EvidenceNet
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.reasoning import ExperienceIndex
from kemr_lightning.refinement.refiner import check_instances
from kemr_lightning.refinement.states import CHANGE, change, describe_states
from kemr_lightning.refinement.surroundings import surroundings


class KnowledgeRefiner:
    """Refines each instance of an image with the action that its experiences advise, or keeps its mask.

    Args:
        knowledge: What was learned. Without experiences its first action is always taken.
        engine: The CRF's engine, a name in `ENGINES`.
        tolerance: Intended largest difference of a probability from the exact mean field.

    Raises:
        RefinementSettingError: An unknown engine, or a tolerance that is not positive.
    """

    def __init__(
        self, knowledge: Knowledge, engine: str = DEFAULT_ENGINE, tolerance: float = DEFAULT_TOLERANCE
    ) -> None:
        check_engine(engine, tolerance)
        self.knowledge = knowledge
        self.engine = engine
        self.tolerance = tolerance
        self._evidence: dict[torch.device, EvidenceNet] = {}
        self._experienced: ExperienceIndex | None = None
        if knowledge.experiences is not None:
            self._experienced = ExperienceIndex(knowledge.experiences, len(knowledge.actions) + 1)

    @torch.no_grad()
    def __call__(self, image: Tensor, instances: Instances) -> Instances:
        """Refine the instances of one image.

        Args:
            image: ``(H, W)`` or ``(H, W, 3)`` uint8.
            instances: Instances on this image; without patches they come back as they are.

        Returns:
            The same boxes, scores, labels and disagreement, patches on the same windows.

        Raises:
            RefinementError: The image is not the instances' image, a patch leaves it, or a probability is NaN or not in
                [0, 1] (the message names the instance).
        """
        return self.decide(image, instances)[0]

    @torch.no_grad()
    def decide(self, image: Tensor, instances: Instances) -> tuple[Instances, Tensor]:
        """Refine the instances of one image and say how.

        Args:
            image: As for a call.
            instances: As for a call.

        Returns:
            What a call returns, and the action taken for each instance, ``(N,)`` int64: 0 keeps the mask, k is the k-th
            action.

        Raises:
            RefinementError: As for a call.
        """
        check_instances(image, instances)
        if not instances.patches:
            return instances, torch.zeros(len(instances), dtype=torch.int64)
        flat = [patch.values.float().reshape(-1) for patch in instances.patches]
        check_probability(torch.cat(flat), [len(values) for values in flat])
        knowledge, device = self.knowledge, flat[0].device
        crops = surroundings(luma(image).to(device), instances, knowledge.margin)
        evidence = self._evidence_on(device)
        if self._experienced is None:
            masks = act(knowledge.actions[0], crops, evidence, self.engine, self.tolerance)
            return with_masks(instances, masks), torch.ones(len(instances), dtype=torch.int64)
        results = act_all(knowledge.actions, crops, evidence, self.engine, self.tolerance)
        states = describe_states(crops, instances)
        initial = initial_masks(crops)
        states_by_action = [
            unite_states(states, [change(a, b) for a, b in zip(initial, masks, strict=True)], CHANGE)
            for masks in results
        ]
        actions = self._experienced.decide(states_by_action, knowledge.reasoning)
        chosen = [
            initial[index] if action == 0 else results[action - 1][index]
            for index, action in enumerate(actions.tolist())
        ]
        return with_masks(instances, chosen), actions

    def _evidence_on(self, device: torch.device) -> EvidenceNet | None:
        """The evidence network on a device. A copy, because the knowledge's own may be in use elsewhere."""
        network = self.knowledge.evidence
        if network is None or network.confidence.device == device:
            return network
        if device not in self._evidence:
            self._evidence[device] = copy.deepcopy(network).to(device)
        return self._evidence[device]
