"""The parameters of the CRF: their ranges, and how they become numbers, tensors and kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.refinement import (
    CRFParams,
    RefinementError,
    refine_probability,
)
from kemr_lightning.refinement.parameters import kernels_of


def test_params_to_tensor_and_back():
    params = CRFParams(2.5, 9.0, 3.0, 4.0, 0.5, 7, temperature=1.5)
    assert CRFParams.from_tensor(params.to_tensor(), 7) == params


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


def test_tensor_parameters_without_gradients_are_numbers():
    rng = np.random.default_rng(6)
    image, prob = rng.integers(0, 256, (9, 8)).astype(np.uint8), rng.random((9, 8)).astype(np.float32)
    given = CRFParams(w1=torch.tensor(4.0, requires_grad=True), sigma_beta=torch.tensor(12.0, dtype=torch.float64))
    plain = CRFParams(w1=4.0, sigma_beta=12.0)
    assert given.numbers() == plain
    assert all(isinstance(value, int | float) for value in vars(given.numbers()).values())
    np.testing.assert_array_equal(refine_probability(image, prob, given), refine_probability(image, prob, plain))


def test_errors_read_as_a_setting_with_a_cure() -> None:
    with pytest.raises(RefinementError) as caught:
        CRFParams(sigma_beta=-4)
    assert str(caught.value) == "sigma_beta=-4 must be greater than 0. Useful values are 3 to 60 grey levels"
    assert isinstance(caught.value, SettingError)


def test_kernels_hold_each_parameter_once() -> None:
    given = CRFParams(2.5, 9.0, 3.5, 4.0, 0.5, 7, temperature=1.5)
    kernels = kernels_of(given.to_tensor().tolist())
    assert kernels.appearance._asdict() == {"weight": 4.0, "sigma": 2.5, "sigma_intensity": 9.0}
    assert kernels.smoothness._asdict() == {"weight": 0.5, "sigma": 3.5}
    assert kernels.temperature == 1.5
    columns = kernels_of(torch.stack([given.to_tensor(), CRFParams().to_tensor()]).unbind(dim=1))
    assert columns.appearance.sigma_intensity.tolist() == [9.0, 9.0]
    assert columns.smoothness.weight.tolist() == [0.5, 0.0]


def test_names_make_parameters_and_unknown_ones_are_refused() -> None:
    assert CRFParams.from_mapping({"w1": 5, "iterations": 2}) == CRFParams(w1=5, iterations=2)
    with pytest.raises(RefinementError, match=r"w3=1 is not a parameter of the CRF\. Use .*, temperature$"):
        CRFParams.from_mapping({"w1": 5, "w3": 1})
