"""Which pictures are drawn when, and that a failing one stops nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from kemr_lightning.callbacks.figures import FiguresCallback
from kemr_lightning.callbacks.refinement import RefinementCallback
from kemr_lightning.output import mask_figures
from kemr_lightning.output.csv_log import ContinuedCSVLogger
from tests.callbacks.helpers import FakeModule, eroding, loader, samples, trainer


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Paths of pictures, which are not drawn: they have their own test."""
    paths: list[Path] = []

    def draw(sample: Any, prediction: Any, path: Path, score: float) -> None:
        paths.append(path)

    monkeypatch.setattr(mask_figures, "mask_picture", draw)
    return paths


def test_fixed_images_of_validation_and_test(tmp_path: Path, drawn: list[Path]) -> None:
    items, found = samples(8)
    callbacks = [RefinementCallback(eroding), FiguresCallback(val_images=2, test_images=3)]
    run = trainer(tmp_path, callbacks, logger=ContinuedCSVLogger(tmp_path))  # type: ignore[arg-type]
    run.fit(FakeModule(found), loader(items), loader(items))
    names = [path.relative_to(tmp_path / "figures").as_posix() for path in drawn]
    assert names == ["val/test_1.png", "val/test_7.png"] * 2  # the first images of the first and last of four batches
    drawn.clear()
    run.test(FakeModule(found), loader(items), verbose=False)
    assert [path.name for path in drawn] == ["test_1.png", "test_5.png", "test_7.png"]
    for name in ("training", "precision_recall", "ap_over_iou"):
        assert (tmp_path / "figures" / f"{name}.png").stat().st_size > 0


def test_a_failing_picture_is_reported_and_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(mask_figures, "mask_picture", broken)
    items, found = samples(2)
    callbacks = [RefinementCallback(None), FiguresCallback()]
    with caplog.at_level(logging.WARNING):
        trainer(tmp_path, callbacks).test(FakeModule(found), loader(items), verbose=False)  # type: ignore[arg-type]
    assert "no ink" in caplog.text
    assert (tmp_path / "metrics.json").exists()


def test_it_needs_refinement(tmp_path: Path) -> None:
    items, found = samples(2)
    with pytest.raises(ValueError, match="RefinementCallback"):
        trainer(tmp_path, [FiguresCallback()]).test(FakeModule(found), loader(items), verbose=False)
