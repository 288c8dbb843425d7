"""Clipped logits against the closed form, and how far the two ways to compute them agree."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kemr_lightning.refinement.unary import PROBABILITY_FLOOR, clipped_logit, clipped_logit_of_quotient

EDGES = [-0.5, 0.0, 1e-7, 1e-5, 0.2, 0.5, 0.75, 1 - 1e-5, 1.0, 1.5]


def closed_form(p: float) -> float:
    return math.log(min(max(p, 1e-5), 1)) - math.log(min(max(1 - p, 1e-5), 1))


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_arrays_and_tensors_give_the_clipped_logit(kind: type) -> None:
    prob = np.array(EDGES, dtype=kind)
    wanted = [closed_form(float(p)) for p in prob]
    assert clipped_logit(prob).dtype == kind
    np.testing.assert_allclose(clipped_logit(prob), wanted, rtol=1e-4 if kind is np.float32 else 1e-12)
    np.testing.assert_allclose(clipped_logit(torch.from_numpy(prob)).numpy(), wanted, rtol=1e-4)
    np.testing.assert_allclose(clipped_logit_of_quotient(torch.from_numpy(prob)).numpy(), wanted, rtol=1e-4)


def test_both_ways_agree_to_a_few_steps_but_not_to_the_last() -> None:
    """Why there are two: unifying them would change the last bit of refined masks."""
    prob = torch.linspace(0, 1, 100_001)
    difference, quotient = clipped_logit(prob), clipped_logit_of_quotient(prob)
    assert float((difference - quotient).abs().max()) < 4e-6
    assert not torch.equal(difference, quotient)
    assert float(difference.abs().max()) <= -math.log(PROBABILITY_FLOOR) + 1e-5


def test_the_gradient_is_that_of_the_logit_within_the_clip() -> None:
    prob = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    clipped_logit(prob).sum().backward()
    assert prob.grad is not None
    np.testing.assert_allclose(prob.grad[1:3].numpy(), [1 / (0.2 * 0.8), 4.0], rtol=1e-12)


def test_the_probability_is_left_alone() -> None:
    prob = torch.tensor(EDGES, requires_grad=True)
    assert not clipped_logit_of_quotient(prob).requires_grad
    assert torch.equal(prob.detach(), torch.tensor(EDGES))
