"""Labelme files of every version and dialect: what is read, what is refused, what comes back from disk."""

import base64
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.data.annotation import instances_from_patches, tight_patch
from kemr_lightning.data.labelme import (
    MissingImageError,
    NotLabelmeError,
    check_image,
    find_image,
    load_image,
    parse_labelme,
    read_labelme,
    write_labelme,
)
from tests.data.helpers import (
    REMOVE,
    TRIANGLE,
    blob,
    frame,
    iou,
    real_data,
    same_instances,
    shape,
    write_labelme_file,
)


def png(array: np.ndarray, **options: Any) -> str:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **options)
    return base64.b64encode(buffer.getvalue()).decode()


def areas(instances: Instances) -> list[int]:
    assert instances.patches is not None
    return [patch.area() for patch in instances.patches]


# --- shapes


def test_every_enclosing_shape_is_an_instance(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 1], [1, 1, 0]], dtype=np.uint8)
    shapes = [
        shape(TRIANGLE),
        shape([[30, 20], [20, 10]], kind="rectangle"),
        shape([[40, 10], [45, 10], [45, 20], [40, 20]], kind="oriented_rectangle"),
        shape([[30, 20], [36, 20]], kind="circle"),
        shape([[50, 5], [52, 6]], kind="mask", mask=png(mask)),
        {"label": "chr", "points": [[0, 0], [4, 0], [4, 4], [0, 4]]},  # before version 3.16 there is no type
    ]
    image, instances = read_labelme(write_labelme_file(tmp_path, shapes=shapes))
    assert image.shape == (40, 60)
    assert len(instances) == 6
    assert areas(instances)[1:3] == [100, 50]
    assert areas(instances)[3] == pytest.approx(np.pi * 36, rel=0.02)
    assert np.array_equal(frame(instances.patches[4], (40, 60))[5:7, 50:53], mask.astype(bool))
    assert areas(instances)[4:] == [4, 16]
    assert instances.boxes[1].tolist() == [20, 10, 30, 20]


def test_what_encloses_nothing_is_counted(tmp_path: Path) -> None:
    shapes = [
        shape([[5, 5]], kind="point"),
        shape([[5, 5], [6, 6]], kind="line"),
        shape([[5, 5], [6, 6], [9, 9]], kind="linestrip"),
        shape([[5, 5], [6, 6]], kind="linestrip"),
        shape([[5, 5], [6, 6]]),
        shape([[5, 5], [6, 6], [7, 7]]),
        shape([], kind="polygon"),
        shape([[5, 5], [5, 5]], kind="circle"),
        shape([[5, 5], [5, 9]], kind="rectangle"),
        shape([[5, 5], [5, 9]], kind="mask", mask=png(np.zeros((5, 1), dtype=np.uint8))),
        shape([[500, 5], [501, 5]], kind="mask", mask=png(np.ones((1, 2), dtype=np.uint8))),
        shape([[5, 5], [5, 9]], kind="ellipse"),
        shape(TRIANGLE),
    ]
    read = read_labelme(write_labelme_file(tmp_path, shapes=shapes))
    assert len(read.instances) == 1
    assert read.file.skipped == {"point": 1, "line": 1, "linestrip": 2, "degenerate": 6, "outside": 1, "ellipse": 1}
    assert [other["shape_type"] for other in read.file.other_shapes] == [
        *("point", "line", "linestrip", "linestrip", "mask", "ellipse")
    ]


def test_one_group_and_label_is_one_instance(tmp_path: Path) -> None:
    def square(x: int, **more: Any) -> dict[str, Any]:
        return shape([[x, 2], [x + 4, 2], [x + 4, 6], [x, 6]], **more)

    shapes = [
        square(0, group_id=1),
        square(6),
        square(12, group_id=1),
        square(18, group_id=1, label="other"),
        square(24),
        square(30, group_id=0),
        square(32, group_id=0),  # overlaps the one before
        square(40, group_id=""),
        square(46, group_id=""),
        square(52, group_id=2.0),
    ]
    _, instances = read_labelme(write_labelme_file(tmp_path, shapes=shapes))
    assert areas(instances) == [32, 16, 16, 16, 24, 16, 16, 16]
    assert instances.label_names == ("chr", "other")
    assert instances.labels.tolist() == [1, 1, 2, 1, 1, 1, 1, 1]
    assert instances.boxes[0].tolist() == [0, 2, 16, 6]


def test_overlaps_stay_overlaps(tmp_path: Path) -> None:
    shapes = [
        shape([[5, 5], [25, 15]], kind="rectangle"),
        shape([[15, 5], [35, 15]], kind="rectangle"),
    ]
    _, instances = read_labelme(write_labelme_file(tmp_path, shapes=shapes))
    masks = instances.masks()
    assert int((masks[0] & masks[1]).sum()) == 100


def test_shapes_beyond_the_image_are_cut(tmp_path: Path) -> None:
    shapes = [shape([[-10, -10], [10, 10]], kind="rectangle"), shape([[200, 0], [300, 9]], kind="rectangle")]
    _, instances = read_labelme(write_labelme_file(tmp_path, shapes=shapes))
    assert areas(instances) == [100]


def test_scores_and_flags_are_read(tmp_path: Path) -> None:
    shapes = [
        shape(TRIANGLE, description='{"score": 0.5, "text": "x"}', flags={"review": True}),
        shape(TRIANGLE, description="bent"),
    ]
    _, instances = read_labelme(write_labelme_file(tmp_path, shapes=shapes))
    assert instances.scores.tolist() == [0.5, 1.0]
    assert instances.annotations[0].flags == {"review": True}
    assert instances.annotations[1].description == "bent"


# --- dialects and images


def test_autokary_dialect_without_image(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    document = {"image_path": "a.png", "image_height": 40, "image_width": 60, "shapes": [shape(TRIANGLE, label="6")]}
    path.write_text(json.dumps(document))
    read = read_labelme(path)
    assert read.image is None
    assert read.instances.image_size == (40, 60)
    assert read.instances.label_names == ("6",)
    with pytest.raises(MissingImageError, match=r"a\.png"):
        check_image(parse_labelme(path))


def test_without_image_and_size_there_is_an_error(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imageHeight=None)
    (tmp_path / "one.png").unlink()
    with pytest.raises(MissingImageError, match=r"one\.png"):
        read_labelme(path)


@pytest.mark.parametrize("version", ["3.4.1", "3.21.1", "4.5.6", "5.0.1", "6.3.1", None])
def test_versions(tmp_path: Path, version: str | None) -> None:
    path = write_labelme_file(tmp_path, version=REMOVE if version is None else version)
    assert len(read_labelme(path).instances) == 1
    assert parse_labelme(path).version == version


def test_old_files_state_no_size(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imageHeight=REMOVE, imageWidth=REMOVE, flags=REMOVE)
    assert read_labelme(path).instances.image_size == (40, 60)


def test_byte_order_mark_and_windows_paths(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imagePath="pictures\\one.png")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "one.png").rename(tmp_path / "pictures" / "one.png")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    read = read_labelme(path)
    assert read.image is not None
    assert read.notices == ()


def test_embedded_image_is_used_when_the_file_is_missing(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60), dtype=np.uint8)
    path = write_labelme_file(tmp_path, image=pixels, imageData=png(pixels))
    (tmp_path / "one.png").unlink()
    assert np.array_equal(read_labelme(path).image, pixels)
    assert np.array_equal(load_image(parse_labelme(path)).pixels, pixels)


def test_the_file_comes_before_the_embedded_image(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imageData=png(np.zeros((40, 60), dtype=np.uint8)))
    assert read_labelme(path).image.max() == 90


@pytest.mark.parametrize("stated", ["../outside/one.png", "{tmp}/outside/one.png", "C:\\data\\one.png", "sub/one.png"])
def test_images_elsewhere_are_looked_for_beside_the_json(tmp_path: Path, stated: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    write_labelme_file(outside, image=np.full((40, 60), 7, dtype=np.uint8))
    path = write_labelme_file(inside, imagePath=stated.format(tmp=tmp_path))
    read = read_labelme(path)
    assert read.image.max() == 90
    assert len(read.notices) == 1
    (inside / "one.png").unlink()
    assert read_labelme(path).image is None


def test_the_root_allows_neighbouring_folders(tmp_path: Path) -> None:
    write_labelme_file(tmp_path / "images")
    path = write_labelme_file(tmp_path / "labels", imagePath="../images/one.png")
    (tmp_path / "labels" / "one.png").unlink()
    read = read_labelme(path)
    assert read.image is None
    assert f"lies outside {tmp_path / 'labels'}" in read.notices[0]
    assert f"data.root={tmp_path})" in read.notices[0]
    assert read_labelme(path, root=tmp_path).image is not None


def test_a_renamed_pair_is_found_by_its_name(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imagePath="before.png")
    read = read_labelme(path)
    assert read.image is not None
    assert "same name" in read.notices[0]


def test_a_wrong_size_is_an_error(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, imageHeight=41)
    for act in (read_labelme, lambda p: check_image(parse_labelme(p))):
        with pytest.raises(UserError, match=r"60x41.*60x40"):
            act(path)


@pytest.mark.parametrize("upright", [True, False])
def test_coordinates_refer_to_the_frame_whose_size_is_stated(tmp_path: Path, upright: bool) -> None:
    """Labelme states the upright size; tools that ignore EXIF state the stored one."""
    stored = np.full((40, 60), 20, dtype=np.uint8)
    stored[:10, :10] = 220
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored top left is the upright top right
    size = {"imageHeight": 60, "imageWidth": 40} if upright else {}
    path = write_labelme_file(tmp_path, image=stored, imagePath="one.jpg", **size)
    Image.fromarray(stored).save(tmp_path / "one.jpg", exif=exif, quality=95)
    check_image(parse_labelme(path))
    read = read_labelme(path)
    assert read.image.shape == ((60, 40) if upright else (40, 60))
    assert (read.image[2, -3] if upright else read.image[2, 2]) > 200
    assert len(read.notices) == (0 if upright else 1)


def test_embedded_bytes_are_taken_as_stored(tmp_path: Path) -> None:
    """Labelme embeds upright pixels and shows embedded bytes without looking at EXIF."""
    stored = np.full((40, 60), 20, dtype=np.uint8)
    stored[:10, :10] = 220
    exif = Image.Exif()
    exif[0x0112] = 3
    path = write_labelme_file(tmp_path, image=stored, imageData=png(stored, exif=exif))
    (tmp_path / "one.png").unlink()
    assert read_labelme(path).image[2, 2] == 220


# --- broken files


@pytest.mark.parametrize(
    "content", ["", "{", "[1, 2]", '"text"', "{}", '{"shapes": 3}', "\x00\x01", '{"shapes": [' * 5000]
)
def test_what_is_no_labelme_json_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"bad\.json"):
        parse_labelme(path)


def test_coco_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    with pytest.raises(NotLabelmeError, match="data=coco"):
        parse_labelme(path)


def test_binary_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match=r"bad\.json"):
        parse_labelme(path)


@pytest.mark.parametrize(
    "broken",
    [
        3,
        {"points": TRIANGLE},
        {"label": "", "points": TRIANGLE},
        {"label": None, "points": TRIANGLE},
        {"label": "a", "points": None},
        {"label": "a", "points": "abc"},
        {"label": "a", "points": [[1, 2], [3]]},
        {"label": "a", "points": [[1, 2, 3], [3, 4, 5], [1, 1, 1]]},
        {"label": "a", "points": [[1, None], [3, 4], [5, 6]]},
        {"label": "a", "points": [[1, float("nan")], [3, 4], [5, 6]]},
        {"label": "a", "points": [[1, float("inf")], [3, 4], [5, 6]]},
        {"label": "a", "points": [[1, 1e12], [3, 4], [5, 6]]},
        {"label": "a", "points": [[1, 10**400], [3, 4], [5, 6]]},
        {"label": "a", "points": [["x", "y"], [3, 4], [5, 6]]},
        {"label": "a", "points": TRIANGLE, "group_id": [1]},
        {"label": "a", "points": [[1, 1], [2, 2]], "shape_type": "mask"},
        {"label": "a", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": "no base64!"},
        {"label": "a", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": "AAAA"},
    ],
)
def test_a_broken_shape_is_named_by_its_number(tmp_path: Path, broken: Any) -> None:
    path = write_labelme_file(tmp_path, shapes=[shape(TRIANGLE), broken])
    with pytest.raises(UserError, match=r"one\.json: shape 2"):
        parse_labelme(path)


@pytest.mark.parametrize("height", [0, -4, "40", 40.5, float("inf"), float("nan"), 10**400])
def test_a_senseless_size_is_refused(tmp_path: Path, height: Any) -> None:
    with pytest.raises(UserError, match="imageHeight"):
        parse_labelme(write_labelme_file(tmp_path, imageHeight=height))


def test_broken_embedded_data_is_named(tmp_path: Path) -> None:
    for data in ("AAAA", "*", 5, ["AAAA"]):
        path = write_labelme_file(tmp_path, imageData=data)
        (tmp_path / "one.png").unlink()
        with pytest.raises(UserError, match=r"one\.json"):
            read_labelme(path)


@pytest.mark.parametrize("stated", ["a" * 5000 + ".png", "no\0file.png", "."])
def test_a_path_that_no_file_can_have_finds_the_image_of_the_same_name(tmp_path: Path, stated: str) -> None:
    image, instances = read_labelme(write_labelme_file(tmp_path, imagePath=stated))
    assert image.shape == (40, 60)
    assert len(instances) == 1


def test_a_description_is_text_whatever_it_looks_like(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, shapes=[shape(TRIANGLE, description="[" * 100_000)])
    assert read_labelme(path).instances.scores.tolist() == [1.0]


@pytest.mark.parametrize("relative", [False, True])
def test_images_in_a_folder_beside_that_of_the_files_have_plain_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("my data") if relative else tmp_path / "my data"
    path = write_labelme_file(root / "json", imagePath="../images/one.png")
    (root / "images").mkdir()
    (root / "json" / "one.png").rename(root / "images" / "one.png")
    assert find_image(parse_labelme(path), root) == (root / "images" / "one.png", None)
    assert find_image(parse_labelme(path), None)[0] is None  # the JSON's own folder may not be left


# --- selecting


def test_selected_instances_keep_their_annotations(tmp_path: Path) -> None:
    shapes = [shape([[x, 5], [x + 8, 5], [x + 8, 9]], label=f"c{x}") for x in (5, 20, 35)]
    instances = read_labelme(write_labelme_file(tmp_path, shapes=shapes)).instances
    for index in ([2, 0], torch.tensor([True, False, True]), slice(0, 3, 2), []):
        part = instances[index]
        assert len(part) == (0 if index == [] else 2)
        names = [part.label_names[label - 1] for label in part.labels.tolist()]
        assert [annotation.label for annotation in part.annotations] == names


# --- writing


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


def test_nothing_is_overwritten_unless_asked(tmp_path: Path) -> None:
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
    with pytest.raises(UserError, match="shape_type"):
        write_labelme(tmp_path / "a.json", tmp_path / "other.png", random_instances(0), shape_type="star")


def test_empty_instances(tmp_path: Path) -> None:
    path = write_labelme(tmp_path / "a.json", tmp_path / "i.png", Instances.empty((40, 60)))
    assert len(read_labelme(path).instances) == 0


# --- real files


def test_real_bioimlab_round_trip(tmp_path: Path) -> None:
    for path in sorted((real_data("bioimlab") / "test").glob("*.json"))[:2]:
        read = read_labelme(path)
        assert read.image.shape == (576, 768)
        plain = read.instances
        bare = Instances(plain.image_size, plain.boxes, plain.scores, plain.labels, plain.patches)
        back = read_labelme(write_labelme(tmp_path / path.name, path.with_suffix(".jpg"), bare)).instances
        for one, other in zip(bare.masks().numpy(), back.masks().numpy(), strict=True):
            assert iou(one, other) >= 0.99


def test_real_autokary_files_parse() -> None:
    files = sorted(real_data("autokary_json").glob("*.json"))
    counts = [len(read_labelme(path).instances) for path in files]
    assert sum(counts) == 642
    assert read_labelme(files[0]).instances.image_size == (2200, 3200)


def test_real_mfish_counts_equal_the_polygons() -> None:
    path = sorted(real_data("mfish").glob("*.json"))[0]
    read = read_labelme(path)
    assert len(read.instances) == len(json.loads(path.read_text())["shapes"])
    assert read.image.shape == (517, 645)
