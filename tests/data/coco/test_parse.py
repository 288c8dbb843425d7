"""COCO files: all kinds of segmentation, and faults that are collected with what they concern."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation import annotation_patch
from kemr_lightning.data.coco.parse import CocoContents, parse_coco
from tests.data.helpers import COCO_SIZE, blob, coco_document, frame, write_coco_file


def parse(path: Path) -> CocoContents:
    return parse_coco(path, path.parent, path.parent)


def kinds(contents: CocoContents) -> list[str]:
    return [fault.kind for fault in contents.faults]


def test_every_kind_of_segmentation_equals_pycocotools(tmp_path: Path) -> None:
    mask = blob(np.random.default_rng(0), COCO_SIZE)
    compressed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel().astype(int), [2]])))
    uncompressed = {"size": list(COCO_SIZE), "counts": np.diff(np.concatenate([[0], runs])).tolist()}
    segmentations: list[Any] = [
        [[10.0, 10.0, 30.0, 12.0, 20.0, 30.0]],
        [[10.0, 10.0, 30.0, 12.0, 20.0, 30.0], [40, 5, 50, 5, 50, 15.5, 40, 15]],
        {"size": list(COCO_SIZE), "counts": compressed["counts"].decode()},
        uncompressed,
    ]
    path = write_coco_file(tmp_path, coco_document([{"segmentation": s, "category_id": 5} for s in segmentations]))
    reference = COCO(str(path))
    (record,) = parse(path).records
    assert [annotation.label for annotation in record.annotations or ()] == ["other"] * 4
    for number, annotation in enumerate(record.annotations or ()):
        expected = reference.annToMask(reference.anns[number]).astype(bool)
        assert np.array_equal(frame(annotation_patch(annotation, COCO_SIZE), COCO_SIZE), expected)
    assert record.load().pixels.shape == COCO_SIZE
    assert record.name == "one.png"
    assert record.stated_size == COCO_SIZE


def test_boxes_without_a_segmentation(tmp_path: Path) -> None:
    annotations: list[dict[str, Any]] = [{}, {"segmentation": []}, {"segmentation": None}, {"segmentation": [[]]}]
    (record,) = parse(write_coco_file(tmp_path, coco_document(annotations))).records
    assert record.annotations is not None
    assert [annotation.box for annotation in record.annotations] == [(1, 2, 31, 12)] * 4
    assert all(annotation.box_only for annotation in record.annotations)


def test_degenerate_annotations_are_counted(tmp_path: Path) -> None:
    empty = {"size": list(COCO_SIZE), "counts": [COCO_SIZE[0] * COCO_SIZE[1]]}
    annotations = [
        {"iscrowd": 1, "segmentation": empty},
        {"segmentation": empty},
        {"segmentation": [[1, 1, 2, 2]]},
        {"bbox": [1, 1, 0, 5]},
        {"segmentation": [[0, 0, 9, 0, 9, 9]]},
    ]
    contents = parse(write_coco_file(tmp_path, coco_document(annotations)))
    assert len(contents.records[0].annotations or ()) == 1
    assert contents.skipped == {"degenerate": 4}
    assert contents.faults == []


def test_the_case_is_the_group(tmp_path: Path) -> None:
    content = coco_document([], names=("one.png", "two.png"))
    content["images"][0]["case"] = 77
    first, second = parse(write_coco_file(tmp_path, content, images=("one.png", "two.png"))).records
    assert (first.group, second.group) == ("77", None)


def test_images_may_not_leave_the_root(tmp_path: Path) -> None:
    write_coco_file(tmp_path, {}, "unused.txt", ("secret.png",))
    path = write_coco_file(tmp_path / "root", coco_document([], names=("../secret.png",)), images=())
    contents = parse(path)
    assert contents.records == []
    assert kinds(contents) == ["missing_image"]


@pytest.mark.parametrize("name", ["images/one.png", "images\\one.png", "elsewhere/one.png"])
def test_images_are_found_by_their_path_or_their_last_part(tmp_path: Path, name: str) -> None:
    path = write_coco_file(tmp_path, coco_document([], names=(name,)), images=("images/one.png",))
    assert [record.name for record in parse(path).records] == ["images/one.png"]


@pytest.mark.parametrize(
    "broken",
    [
        {"image_id": 99},
        {"category_id": 99},
        {"bbox": None},
        {"bbox": [1, 2, 3]},
        {"bbox": "abcd"},
        {"segmentation": [[1, 2, 3]]},
        {"segmentation": [["a", "b"]]},
        {"segmentation": 7},
        {"segmentation": {"counts": [1]}},
        {"segmentation": {"size": [9, 9], "counts": [81]}},
        {"segmentation": {"size": [40, 60], "counts": [10, 20]}},
        {"segmentation": {"size": [40, 60], "counts": [-10, 2410]}},
        {"segmentation": {"size": [40, 60], "counts": "é"}},
        {"segmentation": [[1e12, 1, 9, 2e12, 3, 9]]},
        {"image_id": [10]},
        {"category_id": {}},
    ],
)
def test_broken_annotations_are_named_and_the_others_are_kept(tmp_path: Path, broken: dict[str, Any]) -> None:
    contents = parse(write_coco_file(tmp_path, coco_document([{}, broken, {}])))
    assert kinds(contents) == ["broken_shape"]
    assert "annotation 1" in contents.faults[0].message
    assert len(contents.records[0].annotations or ()) == 2


@pytest.mark.parametrize(
    "content", [[], {}, {"images": [], "annotations": 3, "categories": []}, {"images": [1], "annotations": []}]
)
def test_files_of_another_kind_are_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(UserError, match=r"labels\.json is not a COCO file"):
        parse(write_coco_file(tmp_path, content))


@pytest.mark.parametrize(
    ("key", "value"), [("height", "x"), ("height", float("inf")), ("width", -1), ("id", [1]), ("id", None)]
)
def test_senseless_ids_and_sizes_are_refused(tmp_path: Path, key: str, value: Any) -> None:
    content = coco_document([])
    content["images"][0][key] = value
    with pytest.raises(UserError, match=r"one\.png"):
        parse(write_coco_file(tmp_path, content))


def test_an_id_names_one_image(tmp_path: Path) -> None:
    content = coco_document([], names=("one.png", "two.png"))
    content["images"][1]["id"] = 10
    with pytest.raises(UserError, match="two images have the id 10"):
        parse(write_coco_file(tmp_path, content, images=("one.png", "two.png")))


def test_a_category_needs_a_name(tmp_path: Path) -> None:
    content = coco_document([]) | {"categories": [{"id": 3}]}
    with pytest.raises(UserError, match="lacks its id or name"):
        parse(write_coco_file(tmp_path, content))


def test_faults_of_images_say_what_kind_they_are(tmp_path: Path) -> None:
    names = ("one.png", "gone.png", "damaged.png", "small.png", "")
    path = write_coco_file(tmp_path, coco_document([], names), images=("one.png",))
    (tmp_path / "damaged.png").write_bytes(b"text")
    Image.fromarray(np.zeros((40, 61), dtype=np.uint8)).save(tmp_path / "small.png")
    contents = parse(path)
    assert [record.name for record in contents.records] == ["one.png"]
    found = [(fault.kind, fault.image and fault.image.name) for fault in contents.faults]
    assert found == [
        ("missing_image", None),
        ("broken_image", "damaged.png"),
        ("size_mismatch", "small.png"),
        ("broken_shape", None),
    ]
    assert "'small.png' is 61x40, the file says 60x40" in contents.faults[2].message


@pytest.mark.parametrize("stated", [(40, 60), (60, 40)])
def test_the_stated_size_tells_whether_the_orientation_is_applied(tmp_path: Path, stated: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((40, 60), dtype=np.uint8)).save(tmp_path / "one.png", exif=exif)
    content = coco_document([])
    content["images"][0] |= {"height": stated[0], "width": stated[1]}
    (record,) = parse(write_coco_file(tmp_path, content, images=())).records
    assert record.load().pixels.shape == stated


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = write_coco_file(tmp_path, {})
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(coco_document([{}])).encode())
    assert len(parse(path).records) == 1


def test_crowds_are_annotations_of_any_shape(tmp_path: Path) -> None:
    runs = {"size": list(COCO_SIZE), "counts": [5, 3, COCO_SIZE[0] * COCO_SIZE[1] - 8]}
    annotations = [{"iscrowd": 1, "segmentation": runs}, {"iscrowd": 1}, {"iscrowd": 0, "segmentation": runs}]
    contents = parse(write_coco_file(tmp_path, coco_document(annotations)))
    assert [each.crowd for each in contents.records[0].annotations or ()] == [True, True, False]
