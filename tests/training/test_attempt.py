"""Which losses of a forward pass are not finite."""

from __future__ import annotations

import math

import pytest
import torch

from kemr_lightning.training.attempt import Attempt, random_states
from tests.training.helpers import noise


@pytest.mark.parametrize(
    ("losses", "bad"),
    [
        ({"loss_a": 1.0, "loss_b": 2.0}, []),
        ({"loss_a": math.nan, "loss_b": 2.0}, ["loss_a"]),
        ({"loss_a": math.inf, "loss_b": -math.inf}, ["loss_a", "loss_b"]),
        ({"loss_a": 3e38, "loss_b": 3e38}, ["the sum of the losses"]),
    ],
)
def test_terms_that_are_not_finite_are_named(losses: dict[str, float], bad: list[str]) -> None:
    samples = [noise(name="x.png"), noise(name="y.png")]
    attempt = Attempt(samples, {}, {name: torch.tensor(value) for name, value in losses.items()}, not bad)
    assert attempt.bad_terms == bad
    assert attempt.complaint() == (f"{', '.join(bad)} is not finite (images x.png, y.png)" if bad else "")


def test_a_state_gives_the_same_numbers_again() -> None:
    state = random_states(torch.device("cpu"))
    first = torch.rand(3)
    torch.set_rng_state(state["cpu"])
    assert torch.equal(torch.rand(3), first)
