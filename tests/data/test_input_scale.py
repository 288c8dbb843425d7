"""At which size a model sees an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.input_scale import LARGEST, SMALLEST, USUAL_WIDTH, InputScale


def strips(width: int, size: tuple[int, int] = (400, 600)) -> torch.Tensor:
    image = np.full(size, 230, dtype=np.uint8)
    for top in range(30, size[0] - 2 * width, 3 * width + 10):
        image[top : top + width, 40 : size[1] - 40] = 100
    return torch.from_numpy(image)


def test_without_a_rule_images_keep_their_size() -> None:
    assert InputScale.of().size_of(strips(10)) == (400, 600)


def test_a_frame_fits_images_into_it() -> None:
    assert InputScale.of(resize=[300, 300]).size_of(strips(10)) == (200, 300)


@pytest.mark.parametrize("width", [8, 20, 36])
def test_auto_gives_chromosomes_the_usual_width(width: int) -> None:
    image = strips(width)
    height, _ = InputScale.of(scale="auto").size_of(image)
    assert height / 400 * width == pytest.approx(USUAL_WIDTH, rel=0.25)


def test_the_factor_has_limits_and_is_one_where_nothing_is_seen() -> None:
    rule = InputScale(width=12.0)
    assert rule.factor(np.full((50, 50), 9, dtype=np.uint8)) == 1
    assert InputScale(width=1000.0).factor(strips(10).numpy()) == LARGEST
    assert InputScale(width=0.01).factor(strips(10).numpy()) == SMALLEST


def test_the_rule_is_stored_as_plain_values() -> None:
    assert InputScale((640, 480)).plain() == {"input_size": [640, 480], "input_width": None}
    assert InputScale.of(scale="auto").plain() == {"input_size": None, "input_width": USUAL_WIDTH}


@pytest.mark.parametrize("settings", [{"scale": "big"}, {"scale": "auto", "resize": [10, 10]}])
def test_wrong_settings_are_refused(settings: dict) -> None:
    with pytest.raises(SettingError, match="scale"):
        InputScale.of(**settings)
