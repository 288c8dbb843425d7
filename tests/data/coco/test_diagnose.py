"""COCO folders with faults: each is named, and the rest is read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from kemr_lightning.data.coco.diagnose import diagnose_coco
from tests.data.helpers import coco_document, write_coco_file


def test_faults_do_not_stop_it(tmp_path: Path) -> None:
    annotations = [{}, {"category_id": 9}, {"iscrowd": 1}, {"bbox": [1, 1, 0, 5]}]
    names = ("one.png", "empty.png", "gone.png", "bad.png")
    write_coco_file(tmp_path, coco_document(annotations, names), images=("one.png", "empty.png", "alone.png"))
    (tmp_path / "bad.png").write_bytes(b"text")
    (tmp_path / "broken.json").write_text("{")
    survey = diagnose_coco(tmp_path)
    assert [(image.record.name, image.part) for image in survey.images] == [("one.png", "all"), ("empty.png", "all")]
    assert {(fault.kind, fault.file) for fault in survey.faults} == {
        ("broken_file", "broken.json"),
        ("broken_shape", "labels.json"),
        ("degenerate", "labels.json"),
        ("missing_image", "labels.json"),
        ("broken_image", "labels.json"),
        ("empty", "empty.png"),
        ("unannotated", "alone.png"),
        ("unannotated", "bad.png"),
    }
    assert [image.record.name for image in survey.bare] == ["alone.png"]  # the damaged one has its fault already
    assert not any(fault.message.startswith(str(tmp_path)) for fault in survey.faults if fault.kind != "broken_image")


def test_an_image_in_two_files_of_a_part(tmp_path: Path) -> None:
    for name in ("train/a.json", "train/b.json", "test/c.json"):
        write_coco_file(tmp_path, coco_document([{}], names=("images/one.png",)), name, ("images/one.png",))
    survey = diagnose_coco(tmp_path)
    assert survey.parts == ["train", "test"]
    twice = [fault for fault in survey.faults if fault.kind == "two_files"]
    assert [(fault.file, fault.others) for fault in twice] == [("images/one.png", ("train/a.json", "train/b.json"))]
    assert [image.part for image in survey.images] == ["train", "test"]


def test_images_are_decoded_with_and_without_their_annotations(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 60), dtype=np.uint8)).save(tmp_path / "one.png", exif=exif)
    write_coco_file(tmp_path, coco_document([{}]), images=())
    (image,) = diagnose_coco(tmp_path).images
    assert image.record.load().pixels.shape == (40, 60)  # as its file states
    assert image.decode is not None
    assert image.decode().pixels.shape == (60, 40)


def test_a_folder_without_coco_files_is_one_fault(tmp_path: Path) -> None:
    (tmp_path / "labelme.json").write_text(json.dumps({"shapes": []}))
    survey = diagnose_coco(tmp_path)
    assert [(fault.kind, fault.file) for fault in survey.faults] == [("broken_file", "")]
    assert "no COCO JSON" in survey.faults[0].message
    assert survey.parts == ["all"]
