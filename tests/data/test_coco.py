"""COCO folders in their layouts, all kinds of segmentation, and the way back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.data.annotation import annotation_patch, instances_from_patches, tight_patch
from kemr_lightning.data.coco import CocoSource, read_coco, write_coco
from tests.data.helpers import blob, frame, real_data

SIZE = (40, 60)


def document(annotations: list[dict[str, Any]], names: tuple[str, ...] = ("one.png",)) -> dict[str, Any]:
    images = [{"id": 10 + n, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for n, name in enumerate(names)]
    filled = [
        {"id": n, "image_id": 10, "category_id": 3, "iscrowd": 0, "bbox": [1, 2, 30, 10], **annotation}
        for n, annotation in enumerate(annotations)
    ]
    return {
        "images": images,
        "annotations": filled,
        "categories": [{"id": 3, "name": "chr"}, {"id": 5, "name": "other"}],
    }


def write(folder: Path, content: Any, name: str = "labels.json", images: tuple[str, ...] = ("one.png",)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    for image in images:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(SIZE, 50, dtype=np.uint8)).save(folder / image)
    return folder / name


def test_every_kind_of_segmentation_equals_pycocotools(tmp_path: Path) -> None:
    mask = blob(np.random.default_rng(0), SIZE)
    compressed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    runs = np.flatnonzero(np.diff(np.concatenate([[0], mask.T.ravel().astype(int), [2]])))
    uncompressed = {"size": list(SIZE), "counts": np.diff(np.concatenate([[0], runs])).tolist()}
    segmentations: list[Any] = [
        [[10.0, 10.0, 30.0, 12.0, 20.0, 30.0]],
        [[10.0, 10.0, 30.0, 12.0, 20.0, 30.0], [40, 5, 50, 5, 50, 15.5, 40, 15]],
        {"size": list(SIZE), "counts": compressed["counts"].decode()},
        uncompressed,
    ]
    path = write(tmp_path, document([{"segmentation": s, "category_id": 5} for s in segmentations]))
    reference = COCO(str(path))
    (record,) = read_coco(path)
    assert [annotation.label for annotation in record.annotations or ()] == ["other"] * 4
    for number, annotation in enumerate(record.annotations or ()):
        expected = reference.annToMask(reference.anns[number]).astype(bool)
        assert np.array_equal(frame(annotation_patch(annotation, SIZE), SIZE), expected)
    assert record.load().pixels.shape == SIZE
    assert record.name == "one.png"


def test_boxes_only(tmp_path: Path) -> None:
    path = write(tmp_path, document([{}, {"segmentation": []}, {"segmentation": None}, {"segmentation": [[]]}]))
    (record,) = CocoSource(path.parent).read("all")
    assert record.annotations is not None
    assert len(record.annotations) == 4
    assert all(annotation.box_only for annotation in record.annotations)
    assert record.annotations[0].box == (1, 2, 31, 12)


def test_boxes_among_masks_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, document([{}, {"segmentation": [[0, 0, 9, 0, 9, 9]]}]))
    (record,) = CocoSource(path.parent).read("all")
    assert len(record.annotations or ()) == 1


def test_crowds_and_degenerate_annotations_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    empty = {"size": list(SIZE), "counts": [SIZE[0] * SIZE[1]]}
    annotations = [
        {"iscrowd": 1, "segmentation": empty},
        {"segmentation": empty},
        {"segmentation": [[1, 1, 2, 2]]},
        {"bbox": [1, 1, 0, 5]},
        {"segmentation": [[0, 0, 9, 0, 9, 9]]},
    ]
    (record,) = read_coco(write(tmp_path, document(annotations)))
    assert len(record.annotations or ()) == 1
    assert "1 crowd, 3 degenerate" in caplog.text


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
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path, document([{}]), name, images)
    source = CocoSource(tmp_path)
    assert source.parts == parts
    for part, images in zip(parts, files.values(), strict=True):
        assert [record.name for record in source.read(part)] == list(images)


def test_folders_that_only_sound_like_a_part_are_none(tmp_path: Path) -> None:
    for name in ("train", "train_old", "train2", "test"):
        (tmp_path / name).mkdir()
        write(tmp_path, document([{}]), f"{name}/x.json", (f"{name}/one.png",))
    source = CocoSource(tmp_path)
    assert source.parts == ["train", "test"]
    assert source.places("train")[1] == tmp_path / "train"


def test_the_case_is_the_group(tmp_path: Path) -> None:
    content = document([], names=("one.png", "two.png"))
    content["images"][0]["case"] = 77
    first, second = read_coco(write(tmp_path, content, images=("one.png", "two.png")))
    assert (first.group, second.group) == ("77", None)


def test_images_may_not_leave_the_root(tmp_path: Path) -> None:
    write(tmp_path, {}, "unused.txt", ("secret.png",))
    path = write(tmp_path / "root", document([], names=("../secret.png",)), images=())
    with pytest.raises(UserError, match="secret"):
        read_coco(path)


def test_an_image_is_there_once(tmp_path: Path) -> None:
    """Twice, it would be trained on and scored twice, and could lie on both sides of a split."""
    path = write(tmp_path / "a", document([], names=("one.png", "one.png")))
    with pytest.raises(UserError, match=r"one\.png is listed twice"):
        read_coco(path)
    write(tmp_path / "b", document([{}]))
    write(tmp_path / "b", document([{}]), "copy.json")
    with pytest.raises(UserError, match=r"one\.png is listed twice"):
        CocoSource(tmp_path / "b").read("all")
    same_id = document([], names=("one.png", "two.png"))
    same_id["images"][1]["id"] = 10
    with pytest.raises(UserError, match="two images have the id 10"):
        read_coco(write(tmp_path / "c", same_id, images=("one.png", "two.png")))


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
def test_broken_annotations_are_named(tmp_path: Path, broken: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="annotation 1"):
        read_coco(write(tmp_path, document([{}, broken])))


def test_broken_files_are_named(tmp_path: Path) -> None:
    for content in ([], {}, {"images": [], "annotations": 3, "categories": []}, {"images": [1], "annotations": []}):
        with pytest.raises(UserError, match=r"labels\.json"):
            read_coco(write(tmp_path, content))
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        CocoSource(tmp_path).read("all")
    with pytest.raises(UserError, match="no COCO"):
        CocoSource(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"gone\.png"):
        read_coco(write(tmp_path, document([], names=("gone.png",)), images=()))
    for key, value in (("height", "x"), ("height", float("inf")), ("width", -1), ("id", [1]), ("id", None)):
        wrong = document([])
        wrong["images"][0][key] = value
        with pytest.raises(UserError, match=r"one\.png"):
            read_coco(write(tmp_path, wrong))
    wrong = document([])
    wrong["images"][0]["height"] = 41
    with pytest.raises(UserError, match="60x41"):
        read_coco(write(tmp_path, wrong))


def test_write_and_read_back(tmp_path: Path) -> None:
    masks = [blob(np.random.default_rng(seed), SIZE) for seed in range(3)]
    patches = [patch for mask in masks if (patch := tight_patch(mask, 0, 0)) is not None]
    instances = instances_from_patches(patches, [1, 2, 1], SIZE)
    image = torch.full(SIZE, 9, dtype=torch.uint8)
    boxes = Instances(SIZE, torch.tensor([[1.0, 2.0, 5.0, 9.0]]), torch.ones(1), torch.tensor([2]), None)
    samples = [Sample(image, "a.png", 1, instances), Sample(image, "b.png", 2, boxes), Sample(image, "c.png", 3)]
    write(tmp_path, {}, "unused.txt", ("a.png", "b.png", "c.png"))
    path = write_coco(tmp_path / "out.json", samples, ["X", "Y"])
    first, second, third = read_coco(path)
    for annotation, mask, label in zip(first.annotations or (), masks, "XYX", strict=True):
        assert annotation.label == label
        assert np.array_equal(frame(annotation_patch(annotation, SIZE), SIZE), mask)
    assert [annotation.box for annotation in second.annotations or ()] == [(1, 2, 5, 9)]
    assert third.annotations == ()
    reference = COCO(str(path))
    assert [reference.anns[n]["area"] for n in (1, 2, 3)] == [mask.sum() for mask in masks]


def test_real_boxes() -> None:
    source = CocoSource(real_data("cil_gband"))
    records = source.read("all")
    assert len(records) == 150
    assert sum(len(record.annotations or ()) for record in records) == 6898
    assert records[0].group == "10307"
