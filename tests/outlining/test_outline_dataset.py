"""A data set of boxes, written again with outlines."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch import Tensor

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.instances import Instances
from kemr_lightning.data.formats import format_named
from kemr_lightning.outlining.outline_dataset import outline_dataset
from tests.outlining.helpers import scene
from tests.outlining.test_model_outlines import predicted


@pytest.fixture
def boxed(tmp_path: Path) -> Path:
    root = tmp_path / "boxed"
    image, boxes, _ = scene()
    for part in ("train", "test"):
        (root / part).mkdir(parents=True)
        cv2.imwrite(str(root / part / f"{part}_cell.png"), image)
        entry = {"id": 1, "file_name": f"{part}_cell.png", "width": 220, "height": 300}
        annotations = [
            {"id": n, "image_id": 1, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
            for n, (x0, y0, x1, y1) in enumerate(boxes.tolist(), start=1)
        ]
        categories = [{"id": 1, "name": "A1"}]
        document = {"images": [entry], "annotations": annotations, "categories": categories}
        (root / part / "boxes.json").write_text(json.dumps(document))
    return root


def test_what_is_certain_becomes_a_mask_and_the_rest_tight_boxes(boxed: Path, tmp_path: Path) -> None:
    done = outline_dataset(boxed, "coco", tmp_path / "new", "single")
    assert (done.images, done.instances, done.by_stain, done.by_model, done.before) == (2, 16, 12, 0, 0)
    (record,) = format_named("coco").source(done.folder).read("train")
    annotations = record.annotations or ()
    assert sum(annotation.box_only for annotation in annotations) == 2
    assert {annotation.label for annotation in annotations} == {"chromosome"}
    assert np.abs(np.array(annotations[1].box) - (40, 60, 52, 140)).max() <= 2


def test_a_model_adds_its_masks(boxed: Path, tmp_path: Path) -> None:
    _, _, masks = scene()

    def predict(pixels: Tensor) -> Instances:
        assert pixels.shape == (300, 220)
        return predicted([masks[1], masks[2]], [0.9, 0.9])

    done = outline_dataset(boxed, "coco", tmp_path / "new", predict=predict)
    assert (done.by_stain, done.by_model) == (12, 4)
    # Nothing is left to outline.
    with pytest.raises(UserError, match="no boxes without masks"):
        outline_dataset(done.folder, "coco", tmp_path / "again")


def test_nothing_is_overwritten_and_the_folder_must_exist(boxed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        outline_dataset(boxed, "coco", boxed)
    with pytest.raises(SettingError, match="not a folder"):
        outline_dataset(tmp_path / "nothing", "coco", tmp_path / "new")
