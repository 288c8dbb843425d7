"""The unary of the CRF: the logit of the initial probability, clipped so that it stays finite.

A probability p gives ``log(p / (1 - p))`` with p and 1 - p clipped to `PROBABILITY_FLOOR`. Two ways to compute it are
needed, because they differ in the last bit of a float32: the difference of two logarithms, and the logarithm of the
quotient, which takes half the time.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

PROBABILITY_FLOOR = 1e-5
"""Minimum value of p and of 1 - p; logits are within +-11.52."""

Values = TypeVar("Values", Tensor, np.ndarray)


def clipped_logit(prob: Values) -> Values:
    """``log(p) - log(1 - p)``, both clipped.

    Args:
        prob: Probabilities of any shape, float32 or float64; values outside [0, 1] are clipped, too.

    Returns:
        Logits of the same kind, shape and type. Those of a tensor have gradients.
    """
    if isinstance(prob, np.ndarray):
        return np.asarray(np.log(np.clip(prob, PROBABILITY_FLOOR, 1)) - np.log(np.clip(1 - prob, PROBABILITY_FLOOR, 1)))
    return prob.clamp(PROBABILITY_FLOOR, 1).log() - (1 - prob).clamp(PROBABILITY_FLOOR, 1).log()


def clipped_logit_of_quotient(prob: Tensor) -> Tensor:
    """``log(p / (1 - p))``, both clipped: one logarithm, and no gradient.

    Args:
        prob: As in `clipped_logit`.

    Returns:
        A new tensor of logits.
    """
    prob = prob.detach()
    return (prob.clamp(PROBABILITY_FLOOR, 1) / (1 - prob).clamp_(PROBABILITY_FLOOR, 1)).log_()
