"""What the tests of several tasks share."""

from __future__ import annotations

import pytest

from kemr_lightning.tasks import predict as predict_module
from tests.prediction.helpers import BrightModule, grow


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> BrightModule:
    """A module that finds bright parts stands in for the checkpoint's, and a refiner that improves them."""
    found = BrightModule()
    monkeypatch.setattr(predict_module, "load_module", lambda _: found)
    monkeypatch.setattr(predict_module, "build_refiner", lambda *_: grow)
    return found
