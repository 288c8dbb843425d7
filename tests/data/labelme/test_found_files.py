"""Labelme annotations of images to predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kemr_lightning.data.labelme.found_files import labelme_inputs
from tests.data.helpers import png, write_labelme_file


def never(_: Path) -> bool:
    return False


def test_images_with_annotations_and_embedded_images(tmp_path: Path) -> None:
    write_labelme_file(tmp_path, "beside")
    pixels = np.zeros((40, 60), dtype=np.uint8)
    inside = write_labelme_file(tmp_path, "inside", imageData=png(pixels))
    (tmp_path / "inside.png").unlink()
    records = {record.name: record for record in labelme_inputs(tmp_path, never, never)}
    assert {name: record.path for name, record in records.items()} == {
        "beside.png": tmp_path / "beside.png",
        "inside.png": inside,
    }
    assert records["beside.png"].annotated_by == tmp_path / "beside.json"
    assert len(records["inside.png"].annotations or ()) == 1
    np.testing.assert_array_equal(records["inside.png"].load().pixels, pixels)


def test_the_runs_own_files_are_no_annotations(tmp_path: Path) -> None:
    write_labelme_file(tmp_path, "beside")
    write_labelme_file(tmp_path, "inside", imageData=png(np.zeros((40, 60), dtype=np.uint8)))
    (tmp_path / "inside.png").unlink()
    (record,) = labelme_inputs(tmp_path, never, lambda _: True)
    # An embedded image has no other file: it is predicted again.
    assert (record.name, record.annotations, record.annotated_by) == ("inside.png", None, None)


def test_files_apart_are_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_labelme_file(tmp_path / "run", "a").write_text("{")
    assert labelme_inputs(tmp_path, lambda path: path.parent.name == "run", never) == []
    assert caplog.text == ""


def test_of_several_files_that_of_the_images_name_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_labelme_file(tmp_path, "x")
    for other in ("a", "y"):
        (tmp_path / f"{other}.json").write_text(path.read_text())
    (record,) = labelme_inputs(tmp_path, never, never)
    assert record.annotated_by == path
    assert "x.png is annotated by a.json, x.json, y.json: x.json is used" in caplog.text
    (record,) = labelme_inputs(tmp_path, never, lambda file: file.stem in "xa")
    assert record.annotated_by == tmp_path / "y.json"


def test_broken_files_and_files_without_image_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_labelme_file(tmp_path, "broken").write_text("{")
    for number in range(4):
        write_labelme_file(tmp_path, f"alone{number}").with_suffix(".png").unlink()
    assert labelme_inputs(tmp_path, never, never) == []
    assert "broken.json is not valid JSON" in caplog.text
    assert "4 Labelme files without their image: alone0.json, alone1.json, alone2.json, ..." in caplog.text
