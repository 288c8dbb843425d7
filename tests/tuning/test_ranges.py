from __future__ import annotations

import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.tuning.ranges import Range, as_kind, read_ranges, with_values
from tests.conftest import compose


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("sigma", {"low": 1, "high": 2}, "not a parameter of the CRF"),
        ("w1", {"low": 1}, "needs the numbers low and high"),
        ("w1", {"low": 1, "high": 2, "steps": 1}, "needs the numbers low and high"),
        ("w1", {"low": "a", "high": 2}, "needs the numbers low and high"),
        ("w1", 3.0, "needs the numbers low and high"),
        ("w1", {"low": 2, "high": 1}, "low < high"),
        ("w2", {"low": 0, "high": 1, "log": True}, "low > 0"),
        ("w1", {"low": 1, "high": 2, "log": True, "step": 1}, "no step"),
        ("sigma_alpha", {"low": -1, "high": 2}, "greater than 0"),
    ],
)
def test_ranges_that_are_none_are_refused_by_name(name: str, values: object, words: str) -> None:
    with pytest.raises(SettingError, match=words) as caught:
        read_ranges({name: values}, CRFParams())
    assert caught.value.setting == name


@pytest.mark.parametrize("search", [{}, {"w1": None}])
def test_something_must_be_searched(search: dict[str, object]) -> None:
    with pytest.raises(SettingError, match=r"^search=\{.* has no range\. Give that of at least one parameter$"):
        read_ranges(search, CRFParams())


def test_ranges_are_read_and_null_leaves_a_parameter_out() -> None:
    given = {"w1": {"low": 0, "high": 2}, "sigma_beta": {"low": 1, "high": 9, "log": True}, "w2": None}
    assert read_ranges(given, CRFParams()) == {"w1": Range(0, 2), "sigma_beta": Range(1, 9, log=True)}
    assert read_ranges({"iterations": {"low": 1, "high": 10, "step": 3}}, CRFParams())["iterations"].step == 3


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("crf", {"sigma_alpha", "sigma_beta", "sigma_gamma", "w1", "w2", "temperature"}),
        ("sigmas", {"sigma_alpha", "sigma_beta"}),
    ],
)
def test_configured_ranges_are_ranges(name: str, parameters: set[str]) -> None:
    config = compose("task=tune", f"search={name}")
    assert read_ranges(dict(config.search), CRFParams()).keys() == parameters


def test_values_replace_some_parameters() -> None:
    assert with_values(CRFParams(), {"w1": 7.0, "iterations": 2}) == CRFParams(w1=7.0, iterations=2)
    assert as_kind("iterations", 2.6) == 3
    assert isinstance(as_kind("iterations", 2.0), int)
    assert as_kind("w1", 2.6) == 2.6
