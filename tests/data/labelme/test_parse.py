"""Labelme files of every version and dialect: what is understood, counted and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances
from kemr_lightning.data.labelme import (
    NotLabelmeError,
    parse_labelme,
    read_labelme,
)
from tests.data.helpers import (
    REMOVE,
    TRIANGLE,
    frame,
    png,
    real_data,
    shape,
    write_labelme_file,
)


def areas(instances: Instances) -> list[int]:
    assert instances.patches is not None
    return [patch.area() for patch in instances.patches]


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


@pytest.mark.parametrize("version", ["3.4.1", "3.21.1", "4.5.6", "5.0.1", "6.3.1", None])
def test_versions(tmp_path: Path, version: str | None) -> None:
    path = write_labelme_file(tmp_path, version=REMOVE if version is None else version)
    assert len(read_labelme(path).instances) == 1
    assert parse_labelme(path).version == version


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
    with pytest.raises(NotLabelmeError, match="as COCO"):
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


def test_a_description_is_text_whatever_it_looks_like(tmp_path: Path) -> None:
    path = write_labelme_file(tmp_path, shapes=[shape(TRIANGLE, description="[" * 100_000)])
    assert read_labelme(path).instances.scores.tolist() == [1.0]


def test_real_autokary_files_parse() -> None:
    files = sorted(real_data("autokary_json").glob("*.json"))
    counts = [len(read_labelme(path).instances) for path in files]
    assert sum(counts) == 642
    assert read_labelme(files[0]).instances.image_size == (2200, 3200)
