"""The CRF's parameters, its entry point and the exact engine, against hand-worked numbers and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from kemr_lightning.core.errors import UserError
from kemr_lightning.refinement import CRFParams, RefinementError, refine_crops, refine_probability
from kemr_lightning.refinement.dense_crf import to_intensity


def logit(p: float) -> float:
    return math.log(min(max(p, 1e-5), 1)) - math.log(min(max(1 - p, 1e-5), 1))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def by_loops(image: np.ndarray, prob: np.ndarray, params: CRFParams) -> np.ndarray:
    """Mean field of two explicit label distributions, pixel pair by pixel pair, as the paper writes it."""
    pixels = [(i, j) for i in range(image.shape[0]) for j in range(image.shape[1])]

    def kernel(a, b, sigma, sigma_intensity):
        distance = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2
        exponent = distance / (2 * sigma**2)
        if sigma_intensity is not None:
            exponent += (float(image[a]) - float(image[b])) ** 2 / (2 * sigma_intensity**2)
        return math.exp(-exponent)

    terms = [(params.w1, params.sigma_alpha, params.sigma_beta), (params.w2, params.sigma_gamma, None)]
    degrees = [[sum(kernel(a, b, s, si) for b in pixels) for a in pixels] for _, s, si in terms]
    energy = {}
    for a in pixels:
        z0 = logit(float(prob[a])) / params.temperature
        energy[a] = (-math.log(sigmoid(-z0)), -math.log(sigmoid(z0)))
    q = {a: (math.exp(-energy[a][0]), math.exp(-energy[a][1])) for a in pixels}
    for _ in range(params.iterations):
        new = {}
        for i, a in enumerate(pixels):
            score = [-energy[a][0], -energy[a][1]]
            for (weight, s, si), degree in zip(terms, degrees, strict=True):
                for j, b in enumerate(pixels):
                    k = weight * kernel(a, b, s, si) / math.sqrt(degree[i] * degree[j])
                    # Potts: a neighbour's probability of the *other* label costs.
                    score[0] -= k * q[b][1]
                    score[1] -= k * q[b][0]
            top = max(score)
            weights = [math.exp(v - top) for v in score]
            new[a] = (weights[0] / sum(weights), weights[1] / sum(weights))
        q = new
    return np.array([q[a][1] for a in pixels]).reshape(image.shape)


def test_exact_is_the_two_label_mean_field_written_as_loops():
    rng = np.random.default_rng(3)
    image = rng.integers(80, 140, (5, 6)).astype(np.uint8)
    prob = rng.random((5, 6))
    params = CRFParams(1.7, 15, 1.2, 3, 1.5, 4, temperature=1.6)
    np.testing.assert_allclose(
        refine_probability(image, prob, params, "exact"), by_loops(image, prob, params), atol=1e-6
    )


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
    assert to_intensity(colours).tolist() == [[76, 150, 29, 255]]
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_intensity(every[None, :, None].expand(1, 256, 3)), every[None])


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


def test_params_to_tensor_and_back():
    params = CRFParams(2.5, 9.0, 3.0, 4.0, 0.5, 7, temperature=1.5)
    assert CRFParams.from_tensor(params.to_tensor(), 7) == params


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


def test_tensor_parameters_without_gradients_are_numbers():
    rng = np.random.default_rng(6)
    image, prob = rng.integers(0, 256, (9, 8)).astype(np.uint8), rng.random((9, 8)).astype(np.float32)
    given = CRFParams(w1=torch.tensor(4.0, requires_grad=True), sigma_beta=torch.tensor(12.0, dtype=torch.float64))
    plain = CRFParams(w1=4.0, sigma_beta=12.0)
    assert given.numbers() == plain
    assert all(isinstance(value, int | float) for value in vars(given.numbers()).values())
    np.testing.assert_array_equal(refine_probability(image, prob, given), refine_probability(image, prob, plain))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("w1", torch.tensor(-1.0)),
        ("w1", torch.tensor(True)),
        ("sigma_beta", torch.tensor(float("nan"), requires_grad=True)),
        ("sigma_gamma", torch.ones(1)),
        ("iterations", torch.tensor(5)),
        ("sigma_alpha", -1.0),
        ("sigma_beta", 0.0),
        ("sigma_gamma", float("nan")),
        ("w1", -0.1),
        ("w2", float("inf")),
        ("temperature", 0.0),
        ("iterations", -1),
        ("iterations", 2.5),
        ("iterations", True),
        ("w1", "3"),
    ],
)
def test_bad_parameters_are_named(field, value):
    with pytest.raises(RefinementError, match=field) as caught:
        CRFParams(**{field: value})
    assert isinstance(caught.value, UserError)
    assert isinstance(caught.value, ValueError)


def test_bad_input_is_named():
    image, prob = torch.zeros(4, 5, dtype=torch.uint8), torch.zeros(4, 5)
    with pytest.raises(RefinementError, match="unknown refinement engine 'magic'"):
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
