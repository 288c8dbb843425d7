"""Experiences of Neural Knowledge DNA: what an action did to annotated instances."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kemr_lightning.refinement.states import STATE_NAMES

HARM = 0.02
"""A mask that loses more IoU than this was harmed."""


@dataclass(frozen=True)
class Experiences:
    """What actions did to annotated instances.

    Attributes:
        states: ``(E, S)`` float32, columns as in `STATE_NAMES`.
        actions: ``(E,)`` int64, position of the action in the knowledge's list (never 0, which keeps the mask).
        before: ``(E,)`` float32, IoU with the annotation before the action.
        after: ``(E,)`` float32, IoU after it.
        images: ``(E,)`` int64, the image that an experience is from; images of one slide or case share a number.

    Raises:
        ValueError: Shapes disagree, a state is not finite, or an IoU is not in [0, 1].
    """

    states: Tensor
    actions: Tensor
    before: Tensor
    after: Tensor
    images: Tensor

    def __post_init__(self) -> None:
        count = len(self.states)
        if self.states.ndim != 2 or self.states.shape[1] != len(STATE_NAMES):
            raise ValueError(f"states must be (E, {len(STATE_NAMES)}), not {tuple(self.states.shape)}")
        if any(len(each) != count for each in (self.actions, self.before, self.after, self.images)):
            raise ValueError("experiences disagree on their number")
        if not bool(torch.isfinite(self.states).all()):
            raise ValueError("states of experiences must be finite")
        if not all(bool(((ious >= 0) & (ious <= 1)).all()) for ious in (self.before, self.after)):
            raise ValueError("IoUs of experiences must be from 0 to 1")

    def __len__(self) -> int:
        return len(self.states)

    @property
    def gain(self) -> Tensor:
        """``(E,)`` IoU gained."""
        return self.after - self.before
