from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from kemr_lightning.prediction.review import Review
from kemr_lightning.prediction.summary import (
    evaluation_columns,
    match_annotations,
    summary_columns,
    write_crop_index,
    write_summary,
)
from tests.prediction.helpers import entry, mixed_folder, predict_folder, state_of


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_columns_of_an_image() -> None:
    assert summary_columns(state_of(scores=(0.9, 0.8, 0.3)), 46) == {
        "image_id": 3,
        "file_name": "sub/b.png",
        "source": "sub/b.tif",
        "page": 2,
        "width": 40,
        "height": 10,
        "count": 2,
        "expected": 46,
        "shared_pixels": 7,
        "touching_border": 1,
        "mean_score": 0.85,
        "lowest_score": 0.8,
        "review_score": 12.5,
        "reasons": "1 of low confidence; 1 at the image's border",
        "seconds": 0.25,
    }
    nothing = summary_columns(state_of(written=(), border=[]), None)
    assert (nothing["count"], nothing["mean_score"], nothing["lowest_score"]) == (0, None, None)


def test_columns_about_annotations() -> None:
    # The first prediction is on an annotation, the second on none, the third below the score; one more is missed.
    state = state_of(truth=[entry(1.0, x=0), entry(1.0, x=30)], scores=(0.9, 0.8, 0.3))
    found = match_annotations(state.final, state.annotated, 0.5)
    assert evaluation_columns(state, found) == {
        "annotated": 2,
        "found": 1,
        "missed": 1,
        "merged": 0,
        "split": 0,
        "mislabelled": 0,
        "false": 1,
        "mean_iou": 1.0,
    }
    # An annotation of another class, one pixel aside.
    state = state_of(truth=[entry(1.0, label=2, x=1)], scores=(0.9,), written=(0,))
    found = match_annotations(state.final, state.annotated, 0.5)
    columns = evaluation_columns(state, found)
    assert (columns["mislabelled"], columns["found"], columns["mean_iou"]) == (1, 0, None)


def test_images_without_annotated_masks_have_no_matching(tmp_path: Path) -> None:
    state = state_of()
    assert match_annotations(state.final, state.annotated, 0.5) is None
    assert evaluation_columns(state, None) == {}
    # Boxes alone are counted.
    boxes = state_of(truth=[entry(1.0)])
    boxes = replace(boxes, initial=replace(boxes.initial, masks=False))
    assert match_annotations(boxes.final, boxes.annotated, 0.5) is None
    assert evaluation_columns(boxes, None) == {"annotated": 1}
    write_summary(tmp_path / "a.csv", [(state, None), (boxes, None)], 46, evaluated=True)
    assert [row["annotated"] for row in rows_of(tmp_path / "a.csv")] == ["", "1"]
    write_summary(tmp_path / "b.csv", [(state, None)], 46, evaluated=False)
    assert "annotated" not in rows_of(tmp_path / "b.csv")[0]


def test_the_crop_index_tells_where_a_crop_is_from(tmp_path: Path) -> None:
    # The first written instance has no crop (an empty mask has none), and the second is prediction 2 of the image.
    crop = {"file": "sub/b/002.png", "instance": 2, "shared_pixels": 5, "area": 24, "length": 6.0, "width": 4.0}
    crop |= {"angle": 0.0, "x": 22.0, "y": 5.0, "profile": "1 2"}
    review = Review(0.0, [], [set(), {"same pixels", "changed"}])
    state = state_of(written=(0, 2), crops=[crop], review=review, border=[False, True])
    write_crop_index(tmp_path / "index.csv", [state], ["chromosome"])
    (row,) = rows_of(tmp_path / "index.csv")
    assert row == {
        **{key: str(value) for key, value in crop.items()},
        "image_id": "3",
        "file_name": "sub/b.png",
        "label": "chromosome",
        "score": "0.3",
        "at_border": "1",
        "marks": "changed; same pixels",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mixed_folder(tmp_path / "my images")


def test_the_summary_has_a_row_for_each_image(folder: Path, tmp_path: Path) -> None:
    done = predict_folder(folder, tmp_path / "run")
    rows = rows_of(tmp_path / "run" / "summary.csv")
    assert [row["file_name"] for row in rows] == ["a.png", "b.png", "sub/c_p1.png", "sub/c_p2.png"]
    for row, image in zip(rows, done, strict=True):
        assert int(row["count"]) == len(image.state.written)
        assert int(row["expected"]) == 4
        assert float(row["review_score"]) == image.state.review.score
        assert (f"{row['count']} instead of 4" in row["reasons"]) == (row["count"] != "4")
    assert rows[0]["annotated"] == "4"
    assert int(rows[0]["found"]) + int(rows[0]["missed"]) + int(rows[0]["merged"]) + int(rows[0]["split"]) == 4
    assert rows[1]["annotated"] == ""
