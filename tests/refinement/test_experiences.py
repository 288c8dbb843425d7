"""Experiences that fit together, and what they say was gained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kemr_lightning.refinement.experiences import Experiences
from kemr_lightning.refinement.states import STATE_NAMES

TWO = Experiences(
    torch.zeros(2, len(STATE_NAMES)),
    torch.ones(2, dtype=torch.int64),
    torch.tensor([0.5, 0.9]),
    torch.tensor([0.75, 0.875]),
    torch.tensor([1, 2]),
)


def test_gain_is_after_less_before() -> None:
    assert TWO.gain.tolist() == [0.25, pytest.approx(-0.025)]
    assert len(TWO) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": torch.zeros(2, 3)}, "states must be"),
        ({"images": torch.zeros(3)}, "disagree on their number"),
        ({"states": torch.full((2, len(STATE_NAMES)), torch.nan)}, "finite"),
        ({"after": torch.tensor([0.5, 1.5])}, "from 0 to 1"),
    ],
)
def test_experiences_that_do_not_fit_are_refused(change: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TWO, **change)
