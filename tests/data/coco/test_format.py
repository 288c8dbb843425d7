"""COCO as an annotation format; its parts have tests of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.data.annotation_format import WriteOptions
from kemr_lightning.data.coco.format import CocoFormat
from kemr_lightning.data.coco.source import CocoSource
from kemr_lightning.data.coco.write import CocoWriter
from tests.data.helpers import COCO_SIZE, coco_document, write_coco_file


def test_inputs_of_all_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_coco_file(tmp_path, coco_document([{}]), f"{part}/a.json", (f"{part}/one.png",))
    records = CocoFormat().inputs(tmp_path)
    assert [record.path for record in records] == [tmp_path / "train/one.png", tmp_path / "test/one.png"]
    assert {record.stated_size for record in records} == {COCO_SIZE}
    assert {record.annotated_by for record in records} == {None}  # the file is about other images too


def test_faults_are_logged_and_the_rest_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = ("one.png", *(f"gone{number}.png" for number in range(5)))
    write_coco_file(tmp_path, coco_document([{}], names))
    assert [record.name for record in CocoFormat().inputs(tmp_path)] == ["one.png"]
    assert caplog.text.count("It is left out.") == 3
    assert "2 more faults in the COCO files, left out" in caplog.text


def test_without_coco_files_there_are_no_annotations(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert CocoFormat().inputs(tmp_path) == []
    assert "predicted without annotations" in caplog.text


def test_it_reads_diagnoses_and_writes(tmp_path: Path) -> None:
    write_coco_file(tmp_path, coco_document([{}]))
    chosen = CocoFormat()
    assert isinstance(chosen.source(tmp_path), CocoSource)
    assert [image.record.name for image in chosen.diagnose(tmp_path).images] == ["one.png"]
    writer = chosen.writer(tmp_path / "new", ["chr"], WriteOptions())
    assert isinstance(writer, CocoWriter)
    assert writer.keeps_bitmaps
    assert not writer.boxes_become_masks
