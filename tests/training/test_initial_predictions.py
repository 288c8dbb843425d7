"""Predictions of many images: one by one, in order, without gradients, with the store's last word."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
import torch

from kemr_lightning.training.initial_predictions import (
    initial_predictions,
    initial_predictor,
    predict_initial,
    tell_of_store,
)
from kemr_lightning.training.module import SegmentationModule
from kemr_lightning.training.store import PredictionStore
from tests.training.helpers import OneBox, TwoByMean, noise

CPU = torch.device("cpu")


def test_an_image_is_predicted_in_evaluation_mode() -> None:
    module = SegmentationModule(OneBox()).train()
    sample, found = predict_initial(module, noise(size=(60, 80)), CPU)
    assert not module.training
    assert sample.image_size == (60, 80)
    assert found.boxes.tolist() == [[20, 30, 60, 60]]


def test_images_come_in_order_and_only_when_requested() -> None:
    detector = TwoByMean()
    module = SegmentationModule(detector)
    samples = [noise(seed) for seed in range(3)]
    shown: list[int] = []

    def progress(positions: Sequence[int]) -> Iterable[int]:
        for position in positions:
            shown.append(position)
            yield position

    results = initial_predictions(module, samples, CPU, progress)  # type: ignore[arg-type]
    assert detector.seen == 0
    sample, first = next(results)
    assert (detector.seen, sample.name) == (1, "0.png")
    rest = list(results)
    assert [sample.name for sample, _ in rest] == ["1.png", "2.png"]
    assert shown == [0, 1, 2]
    for each, found in zip(samples, [first, *(found for _, found in rest)], strict=True):
        (wanted,) = module.predict_step([each], 0)
        assert torch.equal(found.patches[1].values, wanted.patches[1].values)  # type: ignore[index]


def test_the_store_says_what_it_answered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = SegmentationModule(TwoByMean())
    module.store = PredictionStore(tmp_path, "0" * 64)
    module.store.put(noise(1), module.detector([noise(1).image[None] / 255])[0])
    module.store.tell()
    with caplog.at_level(logging.INFO):
        assert len(list(initial_predictions(module, [noise(1), noise(2)], CPU))) == 2  # type: ignore[arg-type]
    assert "initial predictions of 1 images reused" in caplog.text
    assert "initial predictions of 1 images computed and stored" in caplog.text


def test_no_graph_is_kept() -> None:
    class Learning(OneBox):
        def forward(self, images, targets=None):  # type: ignore[no-untyped-def, override]
            assert not torch.is_grad_enabled()
            return super().forward(images, targets)

    list(initial_predictions(SegmentationModule(Learning()), [noise()], CPU))  # type: ignore[arg-type]


def test_images_asked_for_one_by_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    detector = TwoByMean()
    module = SegmentationModule(detector)
    tell_of_store(module)
    module.store = PredictionStore(tmp_path, "0" * 64)
    predict = initial_predictor(module, CPU)
    (wanted,) = SegmentationModule(TwoByMean()).predict_step([noise(1)], 0)
    for _ in range(2):
        assert torch.equal(predict(noise(1)).boxes, wanted.boxes)
    assert detector.seen == 1
    with caplog.at_level(logging.INFO):
        tell_of_store(module)
    assert "initial predictions of 1 images reused" in caplog.text
