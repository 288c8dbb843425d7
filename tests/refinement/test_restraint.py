"""Restraint against counts by hand."""

from __future__ import annotations

import math

import pytest
import torch

from kemr_lightning.refinement.restraint import FREE, Restraint


def ramp(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities])


def test_free_changes_nothing() -> None:
    refined = torch.rand(5, 7)
    assert torch.equal(FREE(torch.rand(5, 7), refined), refined)


def test_part_of_the_way_is_between_the_logits() -> None:
    half = Restraint(0.5)(ramp(0.2, 0.9), ramp(0.8, 0.9))
    # logit(0.2) = -logit(0.8), so half of the way is 0.5; 0.9 stays.
    torch.testing.assert_close(half, ramp(0.5, 0.9))


@pytest.mark.parametrize(
    ("refined", "area", "kept"),
    [
        # Initially 4 of 8 pixels. A mask that grows to 7 may have 5 (25 % more), the likeliest ones.
        (ramp(0.9, 0.9, 0.9, 0.9, 0.8, 0.7, 0.6, 0.1), 0.25, [1, 1, 1, 1, 1, 0, 0, 0]),
        # One that shrinks to 1 must have 3.
        (ramp(0.9, 0.45, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1), 0.25, [1, 1, 1, 0, 0, 0, 0, 0]),
        # One that moves at the same area is left alone.
        (ramp(0.1, 0.9, 0.9, 0.9, 0.8, 0.2, 0.1, 0.1), 0.0, [0, 1, 1, 1, 1, 0, 0, 0]),
        # Within the bound, too.
        (ramp(0.9, 0.9, 0.9, 0.9, 0.8, 0.2, 0.1, 0.1), 0.25, [1, 1, 1, 1, 1, 0, 0, 0]),
    ],
)
def test_the_area_stays_within_its_bound(refined: torch.Tensor, area: float, kept: list[int]) -> None:
    initial = ramp(0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1)
    assert (Restraint(1.0, area)(initial, refined) >= 0.5).int()[0].tolist() == kept


def test_an_empty_mask_stays_empty() -> None:
    initial = ramp(0.1, 0.2)
    assert torch.equal(Restraint(1.0, 0.02)(initial, ramp(0.9, 0.9)), initial)


def test_a_mask_of_the_whole_window_may_stay() -> None:
    refined = Restraint(1.0, 0.0)(torch.full((2, 3), 0.9), torch.full((2, 3), 0.2))
    assert bool((refined >= 0.5).all())


@pytest.mark.parametrize("values", [{"step": 0.0}, {"step": 1.5}, {"area": -0.1}, {"area": math.nan}])
def test_impossible_values_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Restraint(**values)
