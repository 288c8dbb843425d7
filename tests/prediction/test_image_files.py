from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kemr_lightning.core.contracts import Prediction
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.image import read_image
from kemr_lightning.prediction.image_state import StateFolder
from kemr_lightning.prediction.inputs import find_inputs
from kemr_lightning.prediction.settings import PredictSettings
from tests.prediction.helpers import bright_parts, mixed_folder, predict_folder, predict_one, writer_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mixed_folder(tmp_path / "my images")


def test_masks_that_refinement_has_emptied(folder: Path, tmp_path: Path) -> None:
    item = find_inputs(folder)[0]
    pixels = item.load().pixels
    initial, final = bright_parts(pixels), bright_parts(pixels)
    assert initial.scores[0] >= 0.5
    assert final.patches is not None
    final.patches[0] = Patch(final.patches[0].x0, final.patches[0].y0, final.patches[0].values * 0.1)
    writer = writer_of(folder, tmp_path / "run")
    state = writer.write(item, 1, pixels, Prediction(initial, final), None)
    count = int((final.scores >= 0.5).sum()) - 1
    assert state.written == list(range(1, count + 1))
    assert len(state.areas) == len(state.crops) == len(state.outlines["refined"]) == count
    assert len(json.loads((tmp_path / "run" / "labelme" / "a.json").read_text())["shapes"]) == count
    assert any("left out" in reason for reason in state.review.reasons)


def test_outlines_of_every_layer(folder: Path, tmp_path: Path) -> None:
    annotated, plain = find_inputs(folder)[:2]
    writer = writer_of(folder, tmp_path / "run", crops=False)
    state = predict_one(annotated, 1, writer)
    assert {name: len(paths) for name, paths in state.outlines.items()} == {
        "initial": len(state.written),
        "refined": len(state.written),
        "truth": 4,
    }
    # Masks that were too thin have other outlines after refinement.
    assert not set(state.outlines["initial"]) & set(state.outlines["refined"])
    assert list(predict_one(plain, 2, writer, refine=False).outlines) == ["initial"]
    assert state.crops == []


def test_records_hold_all_predictions_and_the_annotations(folder: Path, tmp_path: Path) -> None:
    item = find_inputs(folder)[0]
    state = predict_one(item, 5, writer_of(folder, tmp_path / "run", score=0.9))
    found = bright_parts(item.load().pixels)
    assert [entry.score for entry in state.final.predictions] == pytest.approx(found.scores.tolist())
    assert len(state.written) == int((found.scores >= 0.9).sum()) < len(found)
    assert state.areas == [patch.area() for patch in (found.patches or [])[: len(state.written)]]
    assert (state.final.image_id, state.final.name, state.final.size) == (5, "a.png", (96, 128))
    assert len(state.initial.truth) == 4
    assert state.refined is not None
    assert state.refined.truth == state.initial.truth
    assert StateFolder(tmp_path / "run", "key").last("a") == state


def test_crops_and_their_index(folder: Path, tmp_path: Path) -> None:
    done = predict_folder(folder, tmp_path / "run")
    with (tmp_path / "run" / "crops" / "index.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == sum(len(state.written) for state in (image.state for image in done))
    for row in rows:
        crop = np.asarray(Image.open(tmp_path / "run" / "crops" / row["file"]))
        assert crop.shape[0] >= crop.shape[1]
        # Rods that cross are one bent part, longer along its axis than it is tall.
        assert 20 < crop.shape[0] < float(row["length"]) + 16
        assert crop[0, 0] == 0  # bright chromosomes lie on black
        assert len(row["profile"].split()) == 64
        assert min(map(int, row["profile"].split())) > 100
    assert not (tmp_path / "none" / "crops").exists()
    predict_folder(folder, tmp_path / "none", PredictSettings(crops=False))
    assert not (tmp_path / "none" / "crops").exists()


def test_pictures_are_scaled_down(folder: Path, tmp_path: Path) -> None:
    predict_one(find_inputs(folder)[0], 1, writer_of(folder, tmp_path / "run", report_side=64))
    assert read_image(tmp_path / "run" / "state" / "a.jpg").pixels.shape == (48, 64)
