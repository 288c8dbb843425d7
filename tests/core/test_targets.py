"""What files of unknown origin may have built."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.targets import RUN_TARGETS, refuse_foreign, targets_in
from tests.conftest import CONF

GOOD: dict[str, Any] = {"_target_": "a.b", "inner": [{"_target_": "a.b", "width": 3}], "text": "$ {x}"}


def check(node: object) -> None:
    refuse_foreign(node, lambda target: target == "a.b", "the file", "Do not use it")


def test_what_is_allowed_passes() -> None:
    check(GOOD)
    assert targets_in(GOOD) == {"a.b"}


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "os.system"}, "names 'os.system', which is not a part of this package. Do not use it"),
        ({**GOOD, "inner": [[{"x": {"_target_": "os.system", "_args_": ["ls"]}}]]}, "names 'os.system'"),
        ({"_target_": "${name}", "name": "os.system"}, r"names '\$\{name\}'"),
        ({"_target_": ["a.b"]}, "not a part"),
        ({"_target_": None}, "not a part"),
        ({**GOOD, "width": "${oc.env:HOME}"}, "unresolved value"),
        ({"_target_": "a.b", "_partial_": True, "x": {"_target_": "os.system", "_partial_": True}}, "os.system"),
    ],
)
def test_anything_else_does_not(node: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(node)


@pytest.mark.parametrize("group", ["data", "augmentation", "refine"])
def test_all_that_conf_names_for_data_and_refinement_is_allowed(group: str) -> None:
    for path in (CONF / group).rglob("*.yaml"):
        assert targets_in(OmegaConf.to_container(OmegaConf.load(path))) <= RUN_TARGETS, f"{path}: add it to RUN_TARGETS"
