from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from kemr_lightning.prediction.image_state import StateFolder
from kemr_lightning.prediction.inputs import find_inputs
from kemr_lightning.prediction.result import Failure, PredictionResult
from kemr_lightning.prediction.run_files import write_run_files
from kemr_lightning.prediction.settings import PredictSettings
from tests.prediction.helpers import bright_parts, mixed_folder, predict_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mixed_folder(tmp_path / "my images")


def test_coco_files_of_the_run(folder: Path, tmp_path: Path) -> None:
    done = predict_folder(folder, tmp_path / "run")
    images = json.loads((tmp_path / "run" / "images.json").read_text())
    assert [image["id"] for image in images] == [1, 2, 3, 4]
    assert [image["file_name"] for image in images] == ["a.png", "b.png", "sub/c_p1.png", "sub/c_p2.png"]
    assert {(image["width"], image["height"]) for image in images} == {(128, 96)}
    assert images[3]["source"] == "sub/c.tif"
    assert images[3]["page"] == 2
    results = json.loads((tmp_path / "run" / "predictions.json").read_text())
    initial = json.loads((tmp_path / "run" / "predictions_initial.json").read_text())
    for image in images:
        masks = bright_parts(find_inputs(folder)[image["id"] - 1].load().pixels)
        mine = [result for result in results if result["image_id"] == image["id"]]
        assert len(mine) == len(masks)  # those below the threshold too
        for result, mask in zip(mine, masks.masks().numpy(), strict=True):
            np.testing.assert_array_equal(coco_mask.decode(result["segmentation"]).astype(bool), mask)
    assert len(initial) == len(results)
    assert sum(coco_mask.area(r["segmentation"]) for r in initial) < sum(
        coco_mask.area(r["segmentation"]) for r in results
    )
    assert sum(len(image.state.written) for image in done) < len(results)


def test_without_a_refiner_initial_and_final_predictions_are_the_same(folder: Path, tmp_path: Path) -> None:
    predict_folder(folder, tmp_path / "run", refine=False)
    final, initial = (tmp_path / "run" / name for name in ("predictions.json", "predictions_initial.json"))
    assert json.loads(final.read_text())
    assert final.read_bytes() == initial.read_bytes()


def test_a_run_without_a_finished_image_leaves_empty_files(tmp_path: Path) -> None:
    result = PredictionResult(1, failures=[Failure("x.png", "is damaged")])
    settings = PredictSettings(crops=False)
    write_run_files(tmp_path, result, StateFolder(tmp_path, "key"), ["chromosome"], settings, "a title")
    for name in ("predictions.json", "predictions_initial.json", "images.json"):
        assert json.loads((tmp_path / name).read_text()) == []
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 1
    assert not (tmp_path / "crops").exists()
    assert "is damaged" in (tmp_path / "report.html").read_text(encoding="utf-8")
