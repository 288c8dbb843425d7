"""Learning rate schedules, stepped with the optimiser. Each is called as ``schedule(optimizer, total_steps)``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(
    optimizer: Optimizer, total_steps: int, warmup_fraction: float = 0.05, final_fraction: float = 0.01
) -> LambdaLR:
    """Linear warm-up, then half a cosine down (Loshchilov & Hutter 2017, without restarts).

    Args:
        optimizer: Its learning rates are the peak.
        total_steps: Steps of the run.
        warmup_fraction: Fraction of the steps in which the rate rises from 0.
        final_fraction: The rate at the end, as a fraction of the peak.

    Returns:
        A scheduler to step after every optimiser step.
    """
    warmup = max(1, round(warmup_fraction * total_steps))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return final_fraction + (1 - final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def multistep(
    optimizer: Optimizer,
    total_steps: int,
    milestones: Sequence[int] = (18_000, 24_000),
    gamma: float = 0.1,
    warmup_steps: int = 0,
) -> LambdaLR:
    """The paper's schedule: the rate falls by ``gamma`` at each milestone.

    Args:
        optimizer: Its learning rates are the initial ones.
        total_steps: Steps of the run; the milestones are absolute and do not depend on it.
        milestones: Steps at which the rate falls.
        gamma: Factor at each milestone.
        warmup_steps: Steps of a linear rise from 0 at the start; 0 for none, as in the paper.

    Returns:
        A scheduler to step after every optimiser step.
    """
    del total_steps

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        passed = sum(step >= milestone for milestone in milestones)
        fall: float = gamma**passed
        return rise * fall

    return LambdaLR(optimizer, factor)
