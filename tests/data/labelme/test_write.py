"""Instances written as Labelme files, and read back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.data.annotation import instances_from_patches, tight_patch
from kemr_lightning.data.labelme import (
    read_labelme,
    write_labelme,
)
from tests.data.helpers import (
    TRIANGLE,
    blob,
    iou,
    real_data,
    same_instances,
    shape,
    write_labelme_file,
)


def random_instances(seed: int, size: tuple[int, int] = (60, 80), classes: int = 1) -> Instances:
    """Overlapping blobs with holes and several parts."""
    rng = np.random.default_rng(seed)
    patches = []
    while len(patches) < 6:
        mask = blob(rng, (int(rng.integers(4, 40)), int(rng.integers(4, 40))))
        x0, y0 = int(rng.integers(0, 80 - mask.shape[1])), int(rng.integers(0, 60 - mask.shape[0]))
        patch = tight_patch(mask, x0, y0)
        if patch is not None:
            patches.append(patch)
    instances = instances_from_patches(patches, rng.integers(1, classes + 1, len(patches)).tolist(), size)
    instances.scores = torch.rand(len(patches), generator=torch.Generator().manual_seed(seed))
    return instances


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["polygon", "mask"])
def test_masks_come_back(tmp_path: Path, seed: int, kind: str) -> None:
    instances = random_instances(seed)
    path = write_labelme(tmp_path / "out.json", tmp_path / "image.png", instances, shape_type=kind)
    back = read_labelme(path).instances
    assert len(back) == len(instances)
    assert back.label_names == ("chromosome",)
    assert back.scores.tolist() == pytest.approx(instances.scores.tolist(), abs=1e-4)
    for one, other in zip(instances.masks().numpy(), back.masks().numpy(), strict=True):
        assert iou(one, other) >= (1.0 if kind == "mask" else 0.99)


@pytest.mark.parametrize("kind", ["polygon", "mask"])
def test_write_read_write_is_lossless(tmp_path: Path, kind: str) -> None:
    found = random_instances(1)
    marks = [{"changed": bool(index % 2)} for index in range(len(found))]
    reasons = {"45 instead of 46": True}
    first = write_labelme(tmp_path / "a.json", tmp_path / "i.png", found, shape_type=kind, marks=marks, flags=reasons)
    second = write_labelme(tmp_path / "b.json", tmp_path / "i.png", read_labelme(first).instances)
    assert first.read_text() == second.read_text()
    assert same_instances(read_labelme(first).instances, read_labelme(second).instances)


def test_read_shapes_are_written_as_they_were(tmp_path: Path) -> None:
    shapes = [
        shape([[30, 20], [36, 20]], kind="circle", label="b", description="round", flags={"x": False}, extra=3),
        shape(TRIANGLE, group_id=7),
        shape([[40, 2], [44, 2], [44, 6]], group_id=7),
        shape([[1, 1], [2, 2]], kind="line"),
    ]
    read = read_labelme(write_labelme_file(tmp_path, shapes=shapes))
    path = write_labelme(tmp_path / "out.json", tmp_path / "one.png", read.instances)
    assert json.loads(path.read_text())["shapes"] == shapes
    chosen = write_labelme(tmp_path / "two.json", tmp_path / "one.png", read.instances[[1]], other_shapes=())
    assert json.loads(chosen.read_text())["shapes"] == shapes[1:3]


def test_what_a_file_says_of_its_image_goes_with_its_instances(tmp_path: Path) -> None:
    line = shape([[1, 1], [2, 2]], kind="line")
    path = write_labelme_file(tmp_path, shapes=[shape(TRIANGLE), line], flags={"checked": True}, slide="A 12")
    found = read_labelme(path).instances
    for kept in (found, found[[0]]):
        document = json.loads(write_labelme(path, tmp_path / "one.png", kept, overwrite=True).read_text())
        assert document["shapes"] == [shape(TRIANGLE), line]
        assert document["flags"] == {"checked": True}
        assert document["slide"] == "A 12"
    changed = json.loads(
        write_labelme(path, tmp_path / "one.png", found, flags={}, other_shapes=(), overwrite=True).read_text()
    )
    assert (changed["flags"], changed["shapes"]) == ({}, [shape(TRIANGLE)])


def test_changed_instances_are_written_as_they_are_now(tmp_path: Path) -> None:
    shapes = [shape([[x, 10], [x + 8, 10], [x + 8, 20], [x, 20]], label="b", extra=x) for x in (5, 20, 35, 48)]
    shapes.append(shape([[2, 30], [9, 30], [9, 38]], label="a"))
    found = read_labelme(write_labelme_file(tmp_path, shapes=shapes)).instances
    assert found.patches is not None
    # As a refiner gives it: probabilities on a larger window, of the same mask and of another.
    same, other = (torch.zeros(20, 20), torch.zeros(20, 20))
    same[5:15, 5:13] = 0.9
    other[5:15, 5:10] = 0.7
    patches = [Patch(0, 5, same), Patch(15, 5, other), *found.patches[2:]]
    scores, labels = found.scores.clone(), found.labels.clone()
    scores[2], labels[3] = 0.25, 1
    changed = dataclasses.replace(found, patches=patches, scores=scores, labels=labels)
    path = write_labelme(tmp_path / "out.json", tmp_path / "one.png", changed)
    written = json.loads(path.read_text())["shapes"]
    assert [written[0], written[4]] == [shapes[0], shapes[4]]
    assert [item["label"] for item in written] == ["b", "b", "b", "a", "a"]
    assert json.loads(written[2]["description"]) == {"score": 0.25}
    back = read_labelme(path).instances
    assert torch.equal(back.masks(), changed.masks())


def test_groups_join_parts_only(tmp_path: Path) -> None:
    two_parts = np.zeros((10, 20), dtype=bool)
    two_parts[2:6, 2:6] = two_parts[2:6, 12:16] = True
    patches = [tight_patch(mask, 0, 0) for mask in (two_parts, two_parts[:, :10], two_parts)]
    instances = instances_from_patches([p for p in patches if p is not None], [1, 1, 1], (40, 60))
    document = json.loads(write_labelme(tmp_path / "a.json", tmp_path / "i.png", instances).read_text())
    assert [item["group_id"] for item in document["shapes"]] == [1, 1, None, 2, 2]


def test_names_marks_and_flags(tmp_path: Path) -> None:
    instances = random_instances(3, classes=2)
    marks = [{"review": bool(index % 2)} for index in range(len(instances))]
    path = write_labelme(
        tmp_path / "a.json", tmp_path / "i.png", instances, ["X", "Y"], marks=marks, flags={"checked": False}
    )
    read = read_labelme(path)
    assert [annotation.label for annotation in read.instances.annotations] == [
        "XY"[label - 1] for label in instances.labels.tolist()
    ]
    assert [annotation.flags for annotation in read.instances.annotations] == marks
    assert read.file.flags == {"checked": False}
    with pytest.raises(UserError, match="label 2"):
        write_labelme(tmp_path / "b.json", tmp_path / "i.png", instances, ["X"])


def test_probabilities_are_cut_at_one_half(tmp_path: Path) -> None:
    instances = random_instances(4)
    assert instances.patches is not None
    for index, patch in enumerate(instances.patches):
        instances.patches[index] = type(patch)(patch.x0, patch.y0, patch.values.float() * 0.6 + 0.1)
    back = read_labelme(write_labelme(tmp_path / "a.json", tmp_path / "i.png", instances, shape_type="mask"))
    assert bool((back.instances.masks() == instances.masks()).all())


def test_boxes_become_rectangles(tmp_path: Path) -> None:
    boxes = torch.tensor([[1.0, 2.0, 11.0, 22.0]])
    instances = Instances((40, 60), boxes, torch.ones(1), torch.ones(1, dtype=torch.int64), None)
    back = read_labelme(write_labelme(tmp_path / "a.json", tmp_path / "i.png", instances)).instances
    assert back.boxes.tolist() == boxes.tolist()


def test_image_path_is_relative_and_opens(tmp_path: Path) -> None:
    pixels = np.full((60, 80), 5, dtype=np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "images" / "i.png")
    path = write_labelme(tmp_path / "labels" / "i.json", tmp_path / "images" / "i.png", random_instances(5))
    assert json.loads(path.read_text())["imagePath"] == "../images/i.png"
    assert read_labelme(path, root=tmp_path).image is not None


def test_nothing_is_overwritten_unless_allowed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("mine")
    with pytest.raises(UserError, match=r"a\.json exists"):
        write_labelme(path, tmp_path / "i.png", random_instances(0))
    assert path.read_text() == "mine"
    write_labelme(path, tmp_path / "i.png", random_instances(0), overwrite=True)
    assert len(read_labelme(path).instances) == 6


def test_bad_requests(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save(tmp_path / "i.png")
    with pytest.raises(UserError, match="9x9"):
        write_labelme(tmp_path / "a.json", tmp_path / "i.png", random_instances(0))
    with pytest.raises(SettingError, match="shape_type=star is unknown"):
        write_labelme(tmp_path / "a.json", tmp_path / "other.png", random_instances(0), shape_type="star")


def test_empty_instances(tmp_path: Path) -> None:
    path = write_labelme(tmp_path / "a.json", tmp_path / "i.png", Instances.empty((40, 60)))
    assert len(read_labelme(path).instances) == 0


def test_real_bioimlab_round_trip(tmp_path: Path) -> None:
    for path in sorted((real_data("bioimlab") / "test").glob("*.json"))[:2]:
        read = read_labelme(path)
        assert read.image.shape == (576, 768)
        plain = read.instances
        bare = Instances(plain.image_size, plain.boxes, plain.scores, plain.labels, plain.patches)
        back = read_labelme(write_labelme(tmp_path / path.name, path.with_suffix(".jpg"), bare)).instances
        for one, other in zip(bare.masks().numpy(), back.masks().numpy(), strict=True):
            assert iou(one, other) >= 0.99
