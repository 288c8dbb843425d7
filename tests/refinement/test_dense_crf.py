"""The CRF's entry point against hand-worked numbers, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from kemr_lightning.refinement import (
    CRFParams,
    RefinementError,
    refine_crops,
    refine_probability,
)
from kemr_lightning.refinement.dense_crf import luma
from tests.refinement.helpers import logit, sigmoid


def test_two_pixels_by_hand():
    """Two pixels of one intensity at distance 1: k = exp(-1/2 sigma²), D = 1 + k."""
    params = CRFParams(sigma_alpha=1, sigma_beta=10, sigma_gamma=1, w1=2, w2=0, iterations=1)
    k = math.exp(-0.5)
    t = [math.tanh(logit(p) / 2) for p in (0.8, 0.4)]
    wanted = [
        sigmoid(logit(0.8) + 2 * (t[0] + k * t[1]) / (1 + k)),
        sigmoid(logit(0.4) + 2 * (t[1] + k * t[0]) / (1 + k)),
    ]
    for engine in ("exact", "torch"):
        image, prob = np.full((1, 2), 7, np.uint8), np.array([[0.8, 0.4]])
        np.testing.assert_allclose(refine_probability(image, prob, params, engine)[0], wanted, atol=2e-3)


@pytest.mark.parametrize("engine", ["torch", "exact", "pydensecrf"])
def test_no_iterations_only_apply_the_temperature(engine):
    if engine == "pydensecrf":
        pytest.importorskip("pydensecrf")
    prob = np.array([[0.0, 0.2, 0.5, 0.9, 1.0]], np.float32)
    image = np.zeros((1, 5), np.uint8)
    refined = refine_probability(image, prob, CRFParams(iterations=0, temperature=2.0), engine)
    np.testing.assert_allclose(refined[0], [sigmoid(logit(p) / 2) for p in prob[0]], atol=1e-5)


@pytest.mark.parametrize("engine", ["torch", "exact"])
def test_no_weights_change_nothing(engine):
    prob = np.random.default_rng(0).random((6, 4)).astype(np.float32)
    refined = refine_probability(np.zeros((6, 4), np.uint8), prob, CRFParams(w1=0, w2=0), engine)
    np.testing.assert_allclose(refined, np.clip(prob, 1e-5, 1 - 1e-5), atol=1e-5)


@pytest.mark.parametrize("engine", ["torch", "exact", "pydensecrf"])
def test_grey_replicated_to_rgb_gives_the_same_bits(engine):
    if engine == "pydensecrf":
        pytest.importorskip("pydensecrf")
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 256, (20, 17)).astype(np.uint8)
    prob = rng.random((20, 17)).astype(np.float32)
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    one, three = (refine_probability(image, prob, CRFParams(), engine) for image in (grey, colour))
    np.testing.assert_array_equal(one, three)


def test_luma_of_pure_colours():
    colours = torch.tensor([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype=torch.uint8)
    assert luma(colours).tolist() == [[76, 150, 29, 255]]
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(luma(every[None, :, None].expand(1, 256, 3)), every[None])


def test_arrays_give_arrays_and_tensors_tensors():
    image, prob = np.zeros((4, 3), np.uint8), np.full((4, 3), 0.3)
    array = refine_probability(image, prob, CRFParams())
    tensor = refine_probability(torch.from_numpy(image), torch.from_numpy(prob), CRFParams())
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    assert array.shape == (4, 3)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(array, tensor.numpy())


def test_views_and_foreign_byte_orders_are_taken_as_what_they_show():
    rng = np.random.default_rng(4)
    image, prob = rng.integers(0, 256, (9, 8, 3)).astype(np.uint8), rng.random((9, 8)).astype(np.float32)
    wanted = refine_probability(image, prob, CRFParams())
    blue_first = np.ascontiguousarray(image[:, :, ::-1])
    np.testing.assert_array_equal(refine_probability(blue_first[:, :, ::-1], prob, CRFParams()), wanted)
    upside_down = np.ascontiguousarray(image[::-1]), np.ascontiguousarray(prob[::-1])
    np.testing.assert_array_equal(refine_probability(upside_down[0][::-1], upside_down[1][::-1], CRFParams()), wanted)
    for order in (">f4", "<f4"):
        np.testing.assert_array_equal(refine_probability(image, prob.astype(order), CRFParams()), wanted)
    with pytest.raises(RefinementError, match="probability must be an array of numbers"):
        refine_probability(image, prob.astype(str), CRFParams())


def test_input_is_left_alone():
    rng = np.random.default_rng(2)
    image, prob = rng.integers(0, 256, (9, 8)).astype(np.uint8), rng.random((9, 8)).astype(np.float32)
    kept = image.copy(), prob.copy()
    refine_probability(image, prob, CRFParams())
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(prob, kept[1])


def test_gradients_flow_to_parameters_that_are_tensors():
    """Against central differences of the float64 oracle, in every real parameter and in the probability."""
    rng = np.random.default_rng(5)
    image = torch.from_numpy(gaussian_filter(rng.uniform(0, 255, (14, 17)), 1.0).astype(np.uint8))
    prob = torch.from_numpy(gaussian_filter(rng.random((14, 17)), 1.0).astype(np.float32))
    values = {"sigma_alpha": 2.5, "sigma_beta": 14.0, "sigma_gamma": 1.5, "w1": 2.0, "w2": 0.7, "temperature": 1.3}
    weight = torch.from_numpy(rng.random((14, 17)))

    def exact(prob: torch.Tensor, **changed: float) -> float:
        refined = refine_probability(image, prob, CRFParams(**{**values, **changed}), "exact")
        return float((refined.double() * weight).sum())

    leaves = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}
    chance = prob.clone().requires_grad_()
    refined = refine_probability(image, chance, CRFParams(**leaves), tolerance=1e-4)
    (refined.double() * weight).sum().backward()
    for name, value in values.items():
        step = 0.02 * value
        slope = (exact(prob, **{name: value + step}) - exact(prob, **{name: value - step})) / (2 * step)
        assert float(leaves[name].grad) == pytest.approx(slope, rel=0.02, abs=2e-3), name
    for at in ((3, 4), (7, 9), (13, 0)):
        step = torch.zeros_like(prob)
        step[at] = 0.01
        slope = (exact(prob + step) - exact(prob - step)) / 0.02
        assert float(chance.grad[at]) == pytest.approx(slope, rel=0.02, abs=2e-3)


def test_bad_input_is_named():
    image, prob = torch.zeros(4, 5, dtype=torch.uint8), torch.zeros(4, 5)
    with pytest.raises(RefinementError, match="engine=magic is an unknown refinement engine"):
        refine_probability(image, prob, CRFParams(), "magic")
    with pytest.raises(RefinementError, match="shape"):
        refine_probability(image, torch.zeros(5, 4), CRFParams())
    with pytest.raises(RefinementError, match="shape"):
        refine_probability(image, torch.zeros(1, 4, 5), CRFParams())
    with pytest.raises(RefinementError, match="empty"):
        refine_probability(image[:0], prob[:0], CRFParams())
    with pytest.raises(RefinementError, match="uint8"):
        refine_probability(image.float(), prob, CRFParams())
    with pytest.raises(RefinementError, match=r"\(H, W, 3\)"):
        refine_probability(image[:, :, None].expand(4, 5, 4), prob, CRFParams())
    with pytest.raises(RefinementError, match="floating point"):
        refine_probability(image, prob.long(), CRFParams())
    with pytest.raises(RefinementError, match="tolerance"):
        refine_probability(image, prob, CRFParams(), tolerance=0.0)
    with pytest.raises(RefinementError, match="2 parameter sets for 1 instances"):
        refine_crops([image], [prob], [CRFParams(), CRFParams()])


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "NaN"), (1.5, "outside"), (-0.2, "outside")])
def test_a_bad_probability_says_which_instance(value, said):
    images = [torch.zeros(3, 4, dtype=torch.uint8)] * 3
    probs = [torch.full((3, 4), 0.5) for _ in range(3)]
    probs[1][2, 1] = value
    with pytest.raises(RefinementError, match=f"instance 1: .*{said}"):
        refine_crops(images, probs, CRFParams())
