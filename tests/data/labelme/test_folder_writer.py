"""Data sets written as Labelme files, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kemr_lightning.data.annotation import Annotation, tight_patch
from kemr_lightning.data.annotation_format import WriteOptions
from kemr_lightning.data.labelme import read_labelme
from kemr_lightning.data.labelme.folder_writer import LabelmeWriter, labelme_shapes
from tests.data.helpers import TRIANGLE, blob, iou

SIZE = (40, 60)


def bitmap() -> tuple[np.ndarray, Annotation]:
    mask = blob(np.random.default_rng(3), SIZE)
    patch = tight_patch(mask, 0, 0)
    assert patch is not None
    return mask, Annotation("Y", patches=(patch,))


def shapes(annotations: list[Annotation], **options: Any) -> list[dict[str, Any]]:
    return labelme_shapes(annotations, SIZE, WriteOptions(**options))


def test_outlines_are_written_corner_by_corner() -> None:
    (made,) = shapes([Annotation("X", polygons=(np.array(TRIANGLE),))])
    assert made == {
        "label": "X",
        "points": TRIANGLE,
        "group_id": None,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }


def test_parts_of_an_instance_share_a_group() -> None:
    two = Annotation("X", polygons=(np.array(TRIANGLE), np.array(TRIANGLE) + 5))
    one = Annotation("X", polygons=(np.array(TRIANGLE),))
    assert [made["group_id"] for made in shapes([one, two, one, two])] == [None, 2, 2, None, 4, 4]


def test_boxes_become_rectangles() -> None:
    (made,) = shapes([Annotation("X", box=(3, 4, 23, 14))])
    assert (made["shape_type"], made["points"]) == ("rectangle", [[3, 4], [23, 14]])
    assert LabelmeWriter(WriteOptions()).boxes_become_masks


def test_scores_are_kept_in_the_description() -> None:
    (made,) = shapes([Annotation("X", box=(3, 4, 23, 14), score=0.123456)])
    assert json.loads(made["description"]) == {"score": 0.1235}


@pytest.mark.parametrize(
    ("options", "kind", "least"),
    [({"min_iou": 0.9}, "polygon", 0.9), ({"min_iou": 1}, "polygon", 1), ({"shape_type": "mask"}, "mask", 1)],
)
def test_bitmaps_become_outlines_or_stay(tmp_path: Path, options: dict[str, Any], kind: str, least: float) -> None:
    mask, annotation = bitmap()
    Image.fromarray(np.zeros(SIZE, dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text("an earlier file")
    writer = LabelmeWriter(WriteOptions(**options))
    writer.add("all", tmp_path / "a.png", [annotation], SIZE)
    writer.finish()
    assert writer.keeps_bitmaps == (kind == "mask")
    assert {each["shape_type"] for each in json.loads((tmp_path / "a.json").read_text())["shapes"]} == {kind}
    _, instances = read_labelme(tmp_path / "a.json")
    assert instances.label_names == ("Y",)
    assert iou(instances.masks()[0].numpy(), mask) >= least
