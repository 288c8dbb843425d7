"""The device that ``trainer.accelerator`` asks for."""

from __future__ import annotations

import pytest
import torch

from kemr_lightning.assembly.device import device_of
from kemr_lightning.core.errors import SettingError
from tests.conftest import compose


def test_auto_takes_what_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert device_of(compose("trainer.accelerator=auto")).type == expected


def test_a_device_that_is_asked_for_takes_precedence() -> None:
    assert device_of(compose("trainer.accelerator=cpu", "trainer.devices=2")) == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("accelerator", ["gpu", "no_such_thing"])
def test_a_device_that_is_not_there_is_said(accelerator: str) -> None:
    with pytest.raises(SettingError, match=f"^trainer.accelerator={accelerator} cannot be had .*auto takes what"):
        device_of(compose(f"trainer.accelerator={accelerator}"))
