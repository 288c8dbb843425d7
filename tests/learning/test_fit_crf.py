from __future__ import annotations

import numpy as np
import pytest
import torch

from kemr_lightning.learning.examples import examples_of
from kemr_lightning.learning.fit_crf import (
    BOUNDS,
    STARTS,
    FitSettings,
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


def unaries_of(seed: int, count: int = 4) -> list[Unary]:
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
    unaries = unaries_of(0, 2)
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
    unaries = unaries_of(1, 2)
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
    training, validation = unaries_of(2), unaries_of(3)
    start = CRFParams(1.5, 12.0, 1.0, 1.0, 0.5)  # does nearly nothing
    settings = FitSettings(0, iterations=3, steps=12, check_every=4, patience=4, batch_size=4)
    (fit,) = fit_crf(training, validation, settings, starts=[start])
    before = mean_iou(validation, CRFParams(**{**start.__dict__, "iterations": 3}), 0.05)
    assert fit.iou > before + 0.03
    assert fit.history[0][2] == pytest.approx(before, abs=1e-3)


def test_fits_of_several_starts_are_ordered_and_every_step_is_reported() -> None:
    training, validation = unaries_of(2, 2), unaries_of(3, 2)
    steps: list[None] = []
    settings = FitSettings(0, iterations=1, steps=3, check_every=2)
    fits = fit_crf(training, validation, settings, on_step=lambda: steps.append(None))
    assert len(fits) == len(STARTS)
    assert len(steps) == 3 * len(STARTS)
    assert [fit.iou for fit in fits] == sorted((fit.iou for fit in fits), reverse=True)
    for fit in fits:
        assert [step for step, _, _ in fit.history] == [0, 2, 3]
        assert fit.iou == max(iou for _, _, iou in fit.history)
        assert mean_iou(validation, fit.params, settings.tolerance) == pytest.approx(fit.iou, abs=1e-6)


def test_a_start_ends_when_patience_is_over() -> None:
    unaries = unaries_of(2, 2)
    # With a learning rate of 0 nothing improves.
    settings = FitSettings(0, iterations=1, steps=20, check_every=1, patience=3, learning_rate=0.0)
    (fit,) = fit_crf(unaries, unaries, settings, starts=STARTS[:1])
    assert [step for step, _, _ in fit.history] == [0, 1, 2, 3]


def test_the_loss_by_hand() -> None:
    # Without iterations and at temperature 1 the CRF returns its unary.
    unaries = unaries_of(0, 2)
    parameters = torch.tensor([2.0, 15.0, 1.5, 2.0, 0.5, 1.0])
    prob = [unary.prob.double().clamp(1e-5, 1 - 1e-5) for unary in unaries]
    target = [unary.example.target.double() for unary in unaries]
    overlaps = [float((p * t).sum() / (p + t - p * t).sum()) for p, t in zip(prob, target, strict=True)]
    ps, ts = (torch.cat([each.reshape(-1) for each in values]) for values in (prob, target))
    entropy = float(-(ts * ps.log() + (1 - ts) * (1 - ps).log()).mean())
    assert float(crf_loss(unaries, parameters, 0, 1e-3)) == pytest.approx(1 - np.mean(overlaps) + entropy, abs=1e-3)


def test_no_validation_examples() -> None:
    assert mean_iou([], CRFParams(), 0.05) == 0.0
