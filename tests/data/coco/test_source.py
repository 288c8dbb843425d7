"""COCO folders in their layouts, and what training refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.coco.source import CocoSource
from tests.data.helpers import coco_document, real_data, write_coco_file


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        ({"boxes.json": ("images/one.png",)}, ["all"]),
        ({"train/x.json": ("train/one.png",), "test/y.json": ("test/images/one.png",)}, ["train", "test"]),
        ({"train/_annotations.coco.json": ("train/one.png",), "valid/a.json": ("valid/one.png",)}, ["train", "val"]),
        (
            {
                "annotations/instances_train.json": ("train/one.png",),
                "annotations/instances_val.json": ("val/one.png",),
            },
            ["train", "val"],
        ),
        ({"train.json": ("images/one.png",), "val.json": ("images/one.png",)}, ["train", "val"]),
        (
            {
                "annotations/instances_train2017.json": ("train2017/one.png",),
                "annotations/instances_val2017.json": ("val2017/one.png",),
            },
            ["train", "val"],
        ),
        ({"train2017/a.json": ("train2017/one.png",), "test2017/b.json": ("test2017/one.png",)}, ["train", "test"]),
    ],
)
def test_layouts(tmp_path: Path, files: dict[str, tuple[str, ...]], parts: list[str]) -> None:
    for name, images in files.items():
        write_coco_file(tmp_path, coco_document([{}]), name, images)
    source = CocoSource(tmp_path)
    assert source.parts == parts
    for part, images in zip(parts, files.values(), strict=True):
        assert [record.name for record in source.read(part)] == list(images)


def test_folders_that_only_sound_like_a_part_are_none(tmp_path: Path) -> None:
    for name in ("train", "train_old", "train2", "test"):
        write_coco_file(tmp_path, coco_document([{}]), f"{name}/x.json", (f"{name}/one.png",))
    source = CocoSource(tmp_path)
    assert source.parts == ["train", "test"]
    assert source.places("train")[1] == tmp_path / "train"


def test_files_that_name_no_part_are_one_set(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_coco_file(tmp_path, coco_document([{}]), "a.json")
    write_coco_file(tmp_path, coco_document([], names=("two.png",)), "b.json", ("two.png",))
    source = CocoSource(tmp_path)
    assert [record.name for record in source.read("all")] == ["one.png", "two.png"]
    assert "none of a.json, b.json names a part" in caplog.text


def test_boxes_among_masks_are_read(tmp_path: Path) -> None:
    write_coco_file(tmp_path, coco_document([{}, {"segmentation": [[0, 0, 9, 0, 9, 9]]}]))
    for records in (CocoSource(tmp_path).read("all"), CocoSource(tmp_path).readable("all")[0]):
        assert [annotation.box_only for annotation in records[0].annotations or ()] == [True, False]


def test_skipped_annotations_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    annotations = [{"iscrowd": 1}, {"segmentation": [[1, 1, 2, 2]]}, {"bbox": [1, 1, 0, 5]}, {}]
    write_coco_file(tmp_path, coco_document(annotations))
    CocoSource(tmp_path).read("all")
    assert "annotations that are not instances, left out: 2 degenerate" in caplog.text


def test_an_image_is_there_once(tmp_path: Path) -> None:
    """Twice, it would be trained on and scored twice, and could lie on both sides of a split."""
    write_coco_file(tmp_path / "a", coco_document([], names=("one.png", "one.png")))
    write_coco_file(tmp_path / "b", coco_document([{}]))
    write_coco_file(tmp_path / "b", coco_document([{}]), "copy.json")
    for folder in ("a", "b"):
        with pytest.raises(UserError, match=r"one\.png is listed twice"):
            CocoSource(tmp_path / folder).read("all")


def test_all_faults_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    names = ("one.png", *(f"gone{number}.png" for number in range(5)))
    write_coco_file(tmp_path, coco_document([{}], names))
    with pytest.raises(UserError) as caught:
        CocoSource(tmp_path).read("all")
    message = str(caught.value)
    assert all(f"gone{number}.png" in message for number in range(3))
    assert "gone3.png" not in message
    assert "(2 more faults in" in message


def test_what_can_be_read_of_a_broken_file(tmp_path: Path) -> None:
    write_coco_file(tmp_path, coco_document([{}, {"category_id": 9}], names=("one.png", "gone.png")), "a.json")
    (tmp_path / "b.json").write_text("{")
    records, faults = CocoSource(tmp_path).readable("all")
    assert [record.name for record in records] == ["one.png"]
    assert len(records[0].annotations or ()) == 1
    assert [word in fault for word, fault in zip(("category 9", "gone.png", "not valid"), faults, strict=True)] == [
        True
    ] * 3


def test_folders_without_a_readable_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        CocoSource(tmp_path).read("all")
    with pytest.raises(UserError, match="nowhere has no COCO JSON"):
        CocoSource(tmp_path / "nowhere")


def test_real_boxes() -> None:
    records = CocoSource(real_data("cil_gband")).read("all")
    assert len(records) == 150
    assert sum(len(record.annotations or ()) for record in records) == 6898
    assert records[0].group == "10307"
