"""Labelme as an annotation format; its parts have tests of their own."""

from __future__ import annotations

from pathlib import Path

from kemr_lightning.data.annotation_format import WriteOptions
from kemr_lightning.data.labelme.folder_writer import LabelmeWriter
from kemr_lightning.data.labelme.format import LabelmeFormat
from kemr_lightning.data.labelme.source import LabelmeSource
from tests.data.helpers import write_labelme_file


def test_it_reads_finds_diagnoses_and_writes(tmp_path: Path) -> None:
    write_labelme_file(tmp_path)
    chosen = LabelmeFormat()
    assert isinstance(chosen.source(tmp_path), LabelmeSource)
    assert [record.name for record in chosen.inputs(tmp_path)] == ["one.png"]
    assert chosen.inputs(tmp_path, apart=lambda _: True) == []
    assert chosen.inputs(tmp_path, written=lambda _: True) == []
    assert [image.record.name for image in chosen.diagnose(tmp_path).images] == ["one.png"]
    assert isinstance(chosen.writer(tmp_path, ["chr"], WriteOptions()), LabelmeWriter)
