from __future__ import annotations

from pathlib import Path

from kemr_lightning.prediction.result import FinishedImage, PredictionResult
from tests.prediction.helpers import state_of


def test_chromosomes_are_those_in_the_labelme_files() -> None:
    images = [FinishedImage("a", state_of(written=(0, 1))), FinishedImage("b", state_of(written=(0,)))]
    assert PredictionResult(3, images).chromosomes == 3
    assert PredictionResult(3).chromosomes == 0


def test_kept_files_are_those_that_were_not_written(tmp_path: Path) -> None:
    for name in ("ours", "edited"):
        (tmp_path / f"{name}.json").write_text("{}")
    images = [
        FinishedImage("ours", state_of(labelme=str(tmp_path / "ours.json"), digest="d")),
        FinishedImage("edited", state_of(labelme=str(tmp_path / "edited.json"), digest=None)),
        # Its image was in the way, so there is no file to keep.
        FinishedImage("none", state_of(labelme=str(tmp_path / "none.json"), digest=None)),
    ]
    assert PredictionResult(3, images).kept == [tmp_path / "edited.json"]
