"""COCO files that are written, read by pycocotools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from kemr_lightning.data.annotation import Annotation, tight_patch
from kemr_lightning.data.annotation_format import WriteOptions
from kemr_lightning.data.coco.source import CocoSource
from kemr_lightning.data.coco.write import CocoWriter
from tests.data.helpers import COCO_SIZE, TRIANGLE, blob, write_coco_file


def bitmap(seed: int) -> tuple[np.ndarray, Annotation]:
    mask = blob(np.random.default_rng(seed), COCO_SIZE)
    patch = tight_patch(mask, 0, 0)
    assert patch is not None
    return mask, Annotation("Y", patches=(patch,))


def write(folder: Path, shape_type: str = "polygon") -> Path:
    """Two images of a test part: a bitmap and an outline; a box and nothing else."""
    write_coco_file(folder / "test", {}, "unused.txt", ("a.png", "sub/b.png"))
    writer = CocoWriter(folder, ["X", "Y"], WriteOptions(shape_type))
    outline = Annotation("X", polygons=(np.array(TRIANGLE),))
    writer.add("test", folder / "test/a.png", [bitmap(0)[1], outline], COCO_SIZE, "case 7")
    writer.add("test", folder / "test/sub/b.png", [Annotation("Y", box=(1, 2, 5, 9))], COCO_SIZE)
    writer.finish()
    return folder / "test/annotations.json"


@pytest.mark.parametrize("shape_type", ["polygon", "mask"])
def test_masks_boxes_and_areas_are_those_of_pycocotools(tmp_path: Path, shape_type: str) -> None:
    coco = COCO(str(write(tmp_path, shape_type)))
    triangle = coco_mask.frPyObjects([np.array(TRIANGLE).ravel().tolist()], *COCO_SIZE)
    expected = [bitmap(0)[0], coco_mask.decode(triangle)[:, :, 0].astype(bool)]
    for number, mask in enumerate(expected, start=1):
        annotation = coco.anns[number]
        assert np.array_equal(coco.annToMask(annotation).astype(bool), mask)
        assert annotation["area"] == mask.sum()
        tight = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))
        assert annotation["bbox"] == tight.tolist()
    assert [coco.cats[coco.anns[number]["category_id"]]["name"] for number in (1, 2)] == ["Y", "X"]


def test_outlines_stay_outlines_unless_all_are_to_be_masks(tmp_path: Path) -> None:
    for shape_type, kinds in (("polygon", [dict, list]), ("mask", [dict, dict])):
        annotations = json.loads(write(tmp_path / shape_type, shape_type).read_text())["annotations"]
        assert [type(annotation.get("segmentation")) for annotation in annotations] == [*kinds, type(None)]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write(tmp_path)
    first, second = CocoSource(tmp_path).read("test")
    assert (first.name, first.group, second.name, second.group) == ("test/a.png", "case 7", "test/sub/b.png", None)
    assert [annotation.label for annotation in first.annotations or ()] == ["Y", "X"]
    assert [annotation.box for annotation in second.annotations or ()] == [(1.0, 2.0, 5.0, 9.0)]


def test_parts_have_files_of_their_own_with_the_same_categories(tmp_path: Path) -> None:
    writer = CocoWriter(tmp_path, ["X"], WriteOptions())
    for part in ("train", "val"):
        writer.add(part, tmp_path / part / "a.png", [], COCO_SIZE)
    writer.finish()
    train, val = (json.loads((tmp_path / part / "annotations.json").read_text()) for part in ("train", "val"))
    assert train["categories"] == val["categories"] == [{"id": 1, "name": "X"}]
    assert [image["id"] for document in (train, val) for image in document["images"]] == [1, 2]


def test_a_set_without_parts_has_one_file_in_the_root(tmp_path: Path) -> None:
    writer = CocoWriter(tmp_path, ["X"], WriteOptions())
    writer.add("all", tmp_path / "images/a.png", [], COCO_SIZE)
    writer.finish()
    (image,) = json.loads((tmp_path / "annotations.json").read_text())["images"]
    assert image == {"id": 1, "file_name": "images/a.png", "width": 60, "height": 40}
