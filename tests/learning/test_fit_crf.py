from __future__ import annotations

import numpy as np
import pytest
import torch

from kemr_lightning.learning.examples import examples_of
from kemr_lightning.learning.fit_crf import (
    BOUNDS,
    STARTS,
    Unary,
    bounded,
    crf_loss,
    fit_crf,
    from_unbounded,
    mean_iou,
    to_unbounded,
)
from kemr_lightning.refinement import CRFParams, refine_probability
from kemr_lightning.refinement.dense_crf import PARAMETER_NAMES
from tests.learning.helpers import rods


def _unaries(seed: int, count: int = 4) -> list[Unary]:
    return [Unary(example, example.crop.prob) for example in examples_of([rods(seed, count)], 4)]


def test_parameters_stay_within_their_bounds_and_come_back() -> None:
    for raw in (torch.full((6,), -50.0), torch.full((6,), 50.0)):
        for name, value in zip(PARAMETER_NAMES, bounded(raw).tolist(), strict=True):
            assert BOUNDS[name][0] * 0.999 <= value <= BOUNDS[name][1] * 1.001
    start = STARTS[0]
    assert from_unbounded(to_unbounded(start), 5).to_tensor().tolist() == pytest.approx(
        start.to_tensor().tolist(), rel=1e-3
    )


def test_gradient_agrees_with_finite_differences() -> None:
    unaries = _unaries(0, 2)
    parameters = torch.tensor([2.0, 15.0, 1.5, 2.0, 0.5, 1.2], requires_grad=True)
    crf_loss(unaries, parameters, 3, 1e-3).backward()
    assert parameters.grad is not None
    for index in (0, 1, 3, 5):
        step = 0.02 * parameters[index].item()
        sides = []
        for sign in (1, -1):
            moved = parameters.detach().clone()
            moved[index] += sign * step
            sides.append(float(crf_loss(unaries, moved, 3, 1e-3)))
        assert float(parameters.grad[index]) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=0.15, abs=2e-4)


def test_mean_iou_is_that_of_the_exact_engine() -> None:
    unaries = _unaries(1, 2)
    params = CRFParams(2.0, 20.0, 2.0, 4.0, 0.5, 3)
    ious = []
    for unary in unaries:
        crop = unary.example.crop
        exact = refine_probability(crop.intensity.numpy(), unary.prob.numpy(), params, engine="exact")
        mask = crop.crop(torch.from_numpy(exact)) >= 0.5
        truth = crop.crop(unary.example.target) > 0.5
        ious.append(float((mask & truth).sum() / (mask | truth).sum()))
    assert mean_iou(unaries, params, 1e-3) == pytest.approx(np.mean(ious), abs=5e-3)


def test_fitting_finds_parameters_that_pull_loose_masks_to_the_rod() -> None:
    training, validation = _unaries(2), _unaries(3)
    start = CRFParams(1.5, 12.0, 1.0, 1.0, 0.5)  # does nearly nothing
    (fit,) = fit_crf(
        training, validation, 0, iterations=3, steps=12, check_every=4, patience=4, batch_size=4, starts=[start]
    )
    before = mean_iou(validation, CRFParams(**{**start.__dict__, "iterations": 3}), 0.05)
    assert fit.iou > before + 0.03
    assert fit.history[0][2] == pytest.approx(before, abs=1e-3)
