"""Protocols that are checked, and predictions with and without refinement."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kemr_lightning.core.contracts import REQUIRED, Detector, Prediction, as_detector
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances


class Whole:
    """Has all that a detector has."""

    kind, max_detections, max_views = "whole", 5, 1

    def __call__(self, images: list[torch.Tensor], targets: object = None) -> Any:
        return []

    def detect_in_views(self, image: torch.Tensor, views: int) -> Any:
        raise NotImplementedError


def test_a_detector_is_given_back() -> None:
    whole = Whole()
    assert as_detector(whole) is whole
    assert isinstance(whole, Detector)


@pytest.mark.parametrize("name", [*REQUIRED, "__call__"])
def test_what_a_detector_lacks_is_named(name: str) -> None:
    parts = {key: value for key, value in vars(Whole).items() if key != name and not key.startswith("__dict")}
    model = type("Partial", (), parts)()
    with pytest.raises(UserError, match=rf"^Partial cannot be used as a detector: it lacks {name}\. Add what"):
        as_detector(model)


def test_the_check_covers_the_whole_protocol() -> None:
    members = {name for name in vars(Detector) if not name.startswith("_")}
    assert set(REQUIRED) == members


def test_a_prediction_s_layers() -> None:
    initial, refined = Instances.empty((4, 5)), Instances.empty((4, 5))
    plain, both = Prediction(initial, None), Prediction(initial, refined)
    assert plain.final is initial
    assert both.final is refined
    assert list(plain.layers()) == [("initial", initial)]
    assert [name for name, _ in both.layers()] == ["initial", "refined"]
    assert [layer for _, layer in both.layers()][1] is refined
