"""Checks of settings at their limits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from omegaconf import ListConfig

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.checks import check_count, check_factors, check_fraction, check_not_negative, check_size

size = partial(check_size, order="[width, height]", least=64)


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (check_fraction, [0, 0.5, 1], [-0.01, 1.01, float("nan")]),
        (check_not_negative, [0, 7, 0.5], [-1e-9, float("nan")]),
        (check_factors, [(1, 1), [0.5, 2], ListConfig([0.8, 1.25])], [(0, 1), (2, 1), (1,), 1.0, "ab", None]),
        (size, [(64, 64), [640, 480], ListConfig([64, 99]), np.array([64, 64]).tolist()], [(64, 63), 64, (64,), "ab"]),
        (check_count, [0, 46, [3], (3, 9), ListConfig([40, 46])], [-1, (9, 3), [], "46", 4.5, None]),
    ],
)
def test_checks_take_the_good_and_name_the_bad(
    check: Callable[[str, Any], None], good: list[Any], bad: list[Any]
) -> None:
    for value in good:
        check("setting", value)
    for value in bad:
        with pytest.raises(SettingError) as raised:
            check("setting", value)
        assert raised.value.setting == "setting"


def test_pairs_are_shown_as_a_user_writes_them() -> None:
    with pytest.raises(SettingError, match=r"^size=\[32, 99\] is too small\. Give \[width, height\] of at least 64"):
        size("size", (32, 99))
    with pytest.raises(SettingError, match=r"^size=big is not the size of an image"):
        size("size", "big")
