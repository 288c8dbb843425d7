"""How Neural Knowledge DNA decides: the action that served the instances most alike best, or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kemr_lightning.refinement.experiences import HARM, Experiences


@dataclass(frozen=True)
class Reasoning:
    """How experiences decide.

    An action is worth the mean IoU that its neighbours gained, less ``price`` times the part of them that was harmed.

    Attributes:
        neighbours: Experiences consulted per instance and action, at least 1.
        price: What a harmed mask costs, as the gain in mean IoU that would make up for it, at least 0.

    Raises:
        ValueError: A value outside its range.
    """

    neighbours: int = 40
    price: float = 0.2

    def __post_init__(self) -> None:
        if isinstance(self.neighbours, bool) or not isinstance(self.neighbours, int) or self.neighbours < 1:
            raise ValueError(f"reasoning.neighbours must be a whole number, 1 or more, not {self.neighbours!r}")
        if not (math.isfinite(self.price) and self.price >= 0):
            raise ValueError(f"reasoning.price must be 0 or more, not {self.price!r}")


class ExperienceIndex:
    """Experiences prepared for finding the nearest.

    Distances are Euclidean, on states standardised by the experiences' own mean and standard deviation.

    Args:
        experiences: The experiences.
        action_count: Number of actions, including the one that keeps the mask.
    """

    def __init__(self, experiences: Experiences, action_count: int) -> None:
        self.experiences = experiences
        self.action_count = action_count
        self.mean = experiences.states.mean(dim=0)
        self.deviation = experiences.states.std(dim=0, correction=0).clamp(min=1e-3)

    def expect(
        self, states: Tensor, action: int, neighbours: int, images: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What an action did to the instances most alike.

        Args:
            states: ``(N, S)`` states with the action's own change.
            action: Which action.
            neighbours: How many experiences to consult.
            images: ``(N,)`` the image of each state, whose own experiences are left out, for testing a rule on the
                experiences that it comes from; None consults all.

        Returns:
            ``(N,)`` mean IoU gained and ``(N,)`` part of the experiences that were harmed. With fewer than two
            experiences of the action, a gain of 0 and a harm of 1.
        """
        chosen = torch.nonzero(self.experiences.actions == action)[:, 0]
        if len(chosen) < 2 or len(states) == 0:
            return torch.zeros(len(states)), torch.ones(len(states))
        known = (self.experiences.states[chosen] - self.mean) / self.deviation
        asked = (states.cpu() - self.mean) / self.deviation
        distance = torch.cdist(asked, known)
        if images is not None:
            same = images[:, None] == self.experiences.images[chosen][None, :]
            distance = distance.masked_fill(same, torch.inf)
        nearest = distance.topk(min(neighbours, len(chosen)), largest=False)
        usable = torch.isfinite(nearest.values).float()
        gains = self.experiences.gain[chosen][nearest.indices]
        count = usable.sum(dim=1).clamp(min=1)
        return (gains * usable).sum(dim=1) / count, ((gains < -HARM).float() * usable).sum(dim=1) / count

    def decide(self, states: list[Tensor], reasoning: Reasoning, images: Tensor | None = None) -> Tensor:
        """Choose an action for every instance.

        Args:
            states: For each action but number 0 (which keeps the mask), ``(N, S)`` states with that action's change.
            reasoning: The rule's settings.
            images: See `expect`.

        Returns:
            ``(N,)`` int64, see `best_action`.
        """
        expected = [
            self.expect(state, number, reasoning.neighbours, images) for number, state in enumerate(states, start=1)
        ]
        return best_action(expected, reasoning)


def best_action(expected: Sequence[tuple[Tensor, Tensor]], reasoning: Reasoning) -> Tensor:
    """Choose among actions by what to expect from them.

    Args:
        expected: For each action but number 0 (which keeps the mask), what `ExperienceIndex.expect` returns.
        reasoning: The rule's settings.

    Returns:
        ``(N,)`` int64: the action that is worth most; 0 where none is worth more than keeping the mask.
    """
    if not expected:
        return torch.zeros(0, dtype=torch.int64)
    worth = torch.stack([gain - reasoning.price * harm for gain, harm in expected])
    return torch.cat([torch.zeros_like(worth[:1]), worth]).argmax(dim=0)
