"""A refiner that decides per instance, by Neural Knowledge DNA."""

from __future__ import annotations

import torch
from torch import Tensor

from kemr_lightning.instances import Instances
from kemr_lightning.refinement.actions import act, act_all, unite_states, with_masks
from kemr_lightning.refinement.dense_crf import DEFAULT_TOLERANCE, RefinementError, check_engine, to_intensity
from kemr_lightning.refinement.experiences import Experienced
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.states import CHANGE, change, describe_states
from kemr_lightning.refinement.surroundings import surroundings


class KnowingRefiner:
    """Refines each instance of an image with the action that its experiences advise, or keeps its mask.

    Args:
        knowledge: Without experiences its first action is always taken.
        engine: Of the CRF.
        tolerance: Of the CRF.

    Raises:
        RefinementError: An unknown engine or a bad tolerance.
    """

    def __init__(self, knowledge: Knowledge, engine: str = "torch", tolerance: float = DEFAULT_TOLERANCE) -> None:
        check_engine(engine, tolerance)
        self.knowledge = knowledge
        self.engine = engine
        self.tolerance = tolerance
        self._experienced: Experienced | None = None
        if knowledge.experiences is not None:
            self._experienced = Experienced(knowledge.experiences, len(knowledge.actions) + 1)

    @torch.no_grad()
    def __call__(self, image: Tensor, instances: Instances) -> Instances:
        """Refine the instances of one image.

        Args:
            image: ``(H, W)`` or ``(H, W, 3)`` uint8.
            instances: Instances on this image; without patches they come back as they are.

        Returns:
            The same boxes, scores, labels and disagreement, patches on the same windows.

        Raises:
            RefinementError: The image is not the instances' image, or a probability has NaN (says which instance).
        """
        return self.decide(image, instances)[0]

    @torch.no_grad()
    def decide(self, image: Tensor, instances: Instances) -> tuple[Instances, Tensor]:
        """As a call, with the action taken for each instance, ``(N,)`` int64 (0 keeps, k is the k-th action)."""
        if tuple(image.shape[:2]) != tuple(instances.image_size):
            raise RefinementError(
                f"the image has size {tuple(image.shape[:2])}, the instances belong to one of {instances.image_size}."
            )
        if not instances.patches:
            return instances, torch.zeros(len(instances), dtype=torch.int64)
        for index, patch in enumerate(instances.patches):
            if bool(patch.values.isnan().any()):
                raise RefinementError(f"instance {index}: its probability contains NaN.")
        knowledge = self.knowledge
        crops = surroundings(to_intensity(image), instances, knowledge.margin)
        if self._experienced is None:
            masks = act(knowledge.actions[0], crops, knowledge.evidence, self.engine, self.tolerance)
            return with_masks(instances, masks), torch.ones(len(instances), dtype=torch.int64)
        results = act_all(knowledge.actions, crops, knowledge.evidence, self.engine, self.tolerance)
        states = describe_states(crops, instances)
        initial = [patch.values.float() for patch in instances.patches]
        asked = [
            unite_states(states, [change(a, b) for a, b in zip(initial, masks, strict=True)], CHANGE)
            for masks in results
        ]
        actions = self._experienced.decide(asked, knowledge.reasoning)
        chosen = [
            initial[index] if action == 0 else results[action - 1][index]
            for index, action in enumerate(actions.tolist())
        ]
        return with_masks(instances, chosen), actions
