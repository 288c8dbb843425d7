"""Labelme folders with faults: each is named, and the rest is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from kemr_lightning.data.labelme.diagnose import diagnose_labelme
from kemr_lightning.data.survey import Survey
from tests.data.helpers import TRIANGLE, png, shape, write_labelme_file


def faults(survey: Survey) -> set[tuple[str, str]]:
    return {(fault.kind, fault.file) for fault in survey.faults}


def test_a_sound_folder_has_none(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_labelme_file(tmp_path / part)
    survey = diagnose_labelme(tmp_path)
    assert survey.faults == []
    assert survey.bare == []
    assert survey.parts == ["train", "test"]
    assert [(image.record.name, image.part) for image in survey.images] == [
        ("test/one.png", "test"),
        ("train/one.png", "train"),
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    write_labelme_file(tmp_path, "json").write_text("{")
    write_labelme_file(tmp_path, "size", imageHeight="x")
    (tmp_path / "stranger.json").write_text("[1]")
    survey = diagnose_labelme(tmp_path)
    assert faults(survey) >= {
        ("broken_file", "json.json"),
        ("broken_file", "size.json"),
        ("other_json", "stranger.json"),
    }
    assert survey.images == []
    assert not any(fault.message.startswith(str(tmp_path)) for fault in survey.faults)


def test_broken_shapes_are_numbered_and_the_others_are_kept(tmp_path: Path) -> None:
    shapes = [shape(TRIANGLE), shape(TRIANGLE, ""), shape([[3, 3]], kind="point"), shape([["a", 1]]), shape(TRIANGLE)]
    write_labelme_file(tmp_path, shapes=shapes)
    survey = diagnose_labelme(tmp_path)
    messages = [fault.message for fault in survey.faults if fault.kind == "broken_shape"]
    assert [message.partition(" has")[0] for message in messages] == ["shape 2", "shape 4"]
    assert [fault.message for fault in survey.faults if fault.kind == "skipped"] == [
        "shape 3 (chr) is a point, which encloses nothing"
    ]
    assert len(survey.images[0].record.annotations or ()) == 2


def test_shapes_that_are_no_instances(tmp_path: Path) -> None:
    outside = shape([[500, 5], [501, 5]], kind="mask", mask=png(np.ones((1, 2), dtype=np.uint8)))
    flat = shape([[5, 5], [9, 9], [13, 13]])
    write_labelme_file(tmp_path, shapes=[flat, shape([[1, 1], [5, 6]], kind="star"), outside, shape([])])
    found = [(fault.kind, fault.message, fault.boxes) for fault in diagnose_labelme(tmp_path).faults]
    assert found[:4] == [
        ("degenerate", "shape 1 (chr) has 3 corners and no area", ((5, 5, 13, 13),)),
        ("skipped", "shape 2 (chr) is a star, which is of an unknown type", ((1, 1, 5, 6),)),
        ("outside", "shape 3 (chr) is a mask beyond the image", ()),
        ("degenerate", "shape 4 (chr) has 0 corners and no area", ()),
    ]
    assert found[4][0] == "empty"


def test_images_and_how_they_are_decoded(tmp_path: Path) -> None:
    write_labelme_file(tmp_path, "gone").with_suffix(".png").unlink()
    write_labelme_file(tmp_path, "inside", imageHeight=99, imageData=png(np.zeros((40, 60), dtype=np.uint8)))
    (tmp_path / "inside.png").unlink()
    write_labelme_file(tmp_path, "size", imageHeight=99)
    images = {image.record.name: image for image in diagnose_labelme(tmp_path).images}
    assert images["gone.png"].decode is None
    for name in ("inside.png", "size.png"):
        decode = images[name].decode
        assert decode is not None
        assert decode().pixels.shape == (40, 60)  # whatever the file states
        assert images[name].record.stated_size == (99, 60)


def test_two_files_for_an_image_unannotated_and_unused_files(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path / "train", "a")
    (tmp_path / "train/b.json").write_text(path.read_text())
    write_labelme_file(tmp_path / "other", "c")
    Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(tmp_path / "train/alone.png")
    survey = diagnose_labelme(tmp_path)
    assert faults(survey) == {
        ("two_files", "train/a.png"),
        ("unannotated", "train/alone.png"),
        ("unused", "other/c.json"),
        ("unused", "other/c.png"),
    }
    (twice,) = [fault for fault in survey.faults if fault.kind == "two_files"]
    assert twice.others == ("train/a.json", "train/b.json")
    assert [(image.record.name, image.part) for image in survey.bare] == [("train/alone.png", "train")]


def test_images_that_are_not_where_their_file_says(tmp_path: Path) -> None:
    write_labelme_file(tmp_path, imagePath="before.png")
    (fault,) = diagnose_labelme(tmp_path).faults
    assert (fault.kind, fault.file) == ("elsewhere", "one.json")
    assert fault.message.startswith("image 'before.png' is missing")
