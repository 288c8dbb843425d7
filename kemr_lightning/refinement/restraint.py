"""How far an action may change a mask: a fraction of the way, and a bounded change of its area.

Annotators differ in how tightly they draw: one outlines the core of every chromosome of an image, another its blurred
rim, and the image does not show which of the two annotated it. A refinement that moves the whole outline outwards or
inwards suits one of them, so what it gains on one image it loses on the next. A change of shape at an almost constant
area (an end that grows back, a neighbour's corner that is given up) is right for both. So an action can be bound to
nearly keep a mask's area: the pixels with the highest refined logits are taken, as many as the area allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kemr_lightning.refinement.unary import PROBABILITY_FLOOR


@dataclass(frozen=True)
class Restraint:
    """Bounds on what an action does to a mask.

    Attributes:
        step: Fraction of the way from the initial to the refined logits, in (0, 1].
        area: Largest change in the mask's number of pixels (at 0.5), relative to the initial number, >= 0; inf for no
            bound.

    Raises:
        ValueError: A value outside its range.
    """

    step: float = 1.0
    area: float = math.inf

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise ValueError(f"step must be in (0, 1], not {self.step}")
        if not self.area >= 0:
            raise ValueError(f"area must be >= 0, not {self.area}")

    def __call__(self, initial: Tensor, refined: Tensor) -> Tensor:
        """Restrain a refined mask.

        Args:
            initial: ``(h, w)`` float probabilities.
            refined: ``(h, w)`` float probabilities after the action.

        Returns:
            ``(h, w)`` float32 probabilities. An empty initial mask stays as it is if the area is bounded.
        """
        if self.step == 1 and self.area == math.inf:
            return refined
        logits = torch.lerp(_logit(initial), _logit(refined), self.step)
        if self.area < math.inf:
            pixels = int((initial >= 0.5).sum())
            if pixels == 0:
                return initial.float()
            logits = logits - _threshold(logits, pixels * (1 - self.area), pixels * (1 + self.area))
        return torch.sigmoid(logits)

    def __str__(self) -> str:
        parts = [] if self.step == 1 else [f"{self.step:g} of the way"]
        parts += [] if self.area == math.inf else [f"area within {self.area:.0%}"]
        return ", ".join(parts) or "free"


FREE = Restraint()
"""No restraint."""


def _logit(prob: Tensor) -> Tensor:
    # Not `clipped_logit`: torch.logit rounds differently in the last bits, and restrained masks should stay the same.
    return torch.logit(prob.float(), eps=PROBABILITY_FLOOR)


def _threshold(logits: Tensor, fewest: float, most: float) -> float:
    """The threshold nearest to 0 that ``fewest`` to ``most`` of the logits exceed, up to rounding and ties."""
    count = int((logits >= 0).sum())
    wanted = min(max(count, round(fewest)), max(round(most), 1))
    if wanted == count:
        return 0.0
    ordered = logits.flatten().sort(descending=True).values
    if wanted >= len(ordered):
        return float(ordered[-1])
    return float((ordered[wanted - 1] + ordered[wanted]) / 2)
