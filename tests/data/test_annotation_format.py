"""What an annotation format gets for nothing, if it only says how its folders are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.annotation_format import WriteOptions
from tests.data.helpers import BoxFormat, write_box_file


def test_inputs_are_the_records_of_all_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_box_file(tmp_path / part, "a")
    assert [record.name for record in BoxFormat().inputs(tmp_path)] == ["train/a.png", "test/a.png"]


def test_inputs_without_readable_annotations_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_box_file(tmp_path, "a")
    (tmp_path / "a.box").write_text("{")
    assert BoxFormat().inputs(tmp_path) == []
    assert "a.box is broken. The images are predicted without annotations." in caplog.text


def test_a_diagnosis_of_what_can_be_read(tmp_path: Path) -> None:
    write_box_file(tmp_path / "train", "a")
    write_box_file(tmp_path / "train", "b", boxes=[])
    write_box_file(tmp_path / "test", "c")
    (tmp_path / "test/c.box").write_text("{")
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "train/alone.png")
    survey = BoxFormat().diagnose(tmp_path)
    assert survey.parts == ["train", "test"]
    assert [(image.record.name, image.part) for image in survey.images] == [
        ("train/a.png", "train"),
        ("train/b.png", "train"),
    ]
    assert {(fault.kind, fault.file) for fault in survey.faults} == {
        ("empty", "train/b.png"),
        ("broken_file", "test"),
        ("unannotated", "test/c.png"),
        ("unannotated", "train/alone.png"),
    }
    assert [(image.record.name, image.part) for image in survey.bare] == [
        ("test/c.png", "test"),
        ("train/alone.png", "train"),
    ]


def test_a_diagnosis_of_a_folder_without_annotations(tmp_path: Path) -> None:
    survey = BoxFormat().diagnose(tmp_path)
    assert [(fault.kind, fault.file) for fault in survey.faults] == [("broken_file", "")]
    assert survey.images == []


def test_a_format_that_is_only_read_has_no_writer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no boxes"):
        BoxFormat().source(tmp_path)
    assert BoxFormat().writer(tmp_path, [], WriteOptions()) is None


def test_kinds_of_shapes_are_checked() -> None:
    assert WriteOptions("mask").shape_type == "mask"
    with pytest.raises(SettingError, match="shape_type=star is unknown"):
        WriteOptions("star")
    with pytest.raises(SettingError, match=r"min_iou=1\.5 is out of range"):
        WriteOptions(min_iou=1.5)


def test_the_helper_writes_what_its_format_reads(tmp_path: Path) -> None:
    path = write_box_file(tmp_path, "a", boxes=[[1, 2, 9, 30]])
    assert json.loads(path.read_text()) == {"boxes": [[1, 2, 9, 30]]}
    (record,) = BoxFormat().source(tmp_path).read("all")
    assert [annotation.polygons[0].tolist() for annotation in record.annotations or ()] == [
        [[1, 2], [9, 2], [9, 30], [1, 30]]
    ]
