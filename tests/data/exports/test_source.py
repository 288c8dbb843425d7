"""Exports go through the whole package: converted without loss, examined, and named where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.convert import convert_dataset
from kemr_lightning.data.exports.source import join_groups
from kemr_lightning.data.formats import FORMATS, written
from kemr_lightning.doctor import examine
from tests.data.exports import test_cvat, test_yolo
from tests.data.exports.helpers import SHAPES, draw


@pytest.mark.parametrize("target", ["coco", "labelme"])
def test_polygons_of_several_parts_are_converted_within_half_a_pixel(tmp_path: Path, target: str) -> None:
    root = tmp_path / "cvat"
    for name in SHAPES:
        draw(root / "images" / f"{name}.png", name)
    body = "".join(test_cvat.image(name, test_cvat.polygons(name), subset=True) for name in SHAPES)
    test_cvat.write(root / "annotations.xml", body)
    converted = convert_dataset(root, "cvat", target, tmp_path / "new")
    assert (converted.images, converted.instances, converted.lost) == (2, 3, 0)
    source = FORMATS[target].source(tmp_path / "new")
    assert source.parts == ["train", "test"]
    for part in source.parts:
        for record in source.read(part):
            for annotation, (label, parts) in zip(record.annotations or (), SHAPES[record.path.stem], strict=True):
                assert annotation.label == label
                for outline, expected in zip(annotation.polygons, parts, strict=True):
                    assert np.abs(outline - np.array(expected)).max() <= 0.5


def test_the_doctor_examines_exports_and_names_what_is_wrong(tmp_path: Path) -> None:
    test_yolo.write(tmp_path)
    diagnosis = examine(tmp_path, "yolo")
    assert not diagnosis.failed
    assert diagnosis.labels == {"1": 1, "X": 1, "on": 1}
    (tmp_path / "train" / "labels" / "cell_0.txt").write_text("0 1 2")
    errors = [finding for finding in examine(tmp_path, "yolo").findings if finding.severity == "error"]
    assert errors[0].kind == "broken_file"
    assert "cell_0.txt, line 1: neither an outline nor a box" in errors[0].message


def test_which_formats_can_be_written() -> None:
    assert written() == ["labelme", "coco"]


def test_groups_are_joined_by_label() -> None:
    shapes = [
        Annotation(label, polygons=(np.zeros((3, 2)),), group_id=g) for label, g in (("a", 1), ("b", 1), ("a", 1))
    ]
    boxes = [Annotation("a", box=(0, 0, 1, 1), group_id=1)] * 2
    joined = join_groups([*shapes, *boxes])
    assert [(each.label, len(each.polygons), each.box_only) for each in joined] == [
        ("a", 2, False),
        ("b", 1, False),
        ("a", 0, True),
        ("a", 0, True),
    ]


def test_converted_exports_hold_no_leftovers(tmp_path: Path) -> None:
    test_yolo.write(tmp_path / "yolo")
    convert_dataset(tmp_path / "yolo", "yolo", "coco", tmp_path / "new")
    document = json.loads((tmp_path / "new" / "train" / "annotations.json").read_text())
    assert [category["name"] for category in document["categories"]] == ["1", "X", "on"]
    assert len(document["annotations"]) == 2
