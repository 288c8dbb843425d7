"""Labelme folders as records, and what training refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.labelme import parse_labelme
from kemr_lightning.data.labelme.source import LabelmeSource, labelme_record
from tests.data.helpers import REMOVE, png, shape, write_labelme_file


def test_parts_are_folders(tmp_path: Path) -> None:
    assert LabelmeSource(tmp_path).parts == ["all"]
    for name in ("Test", "Training", "valid", "other"):
        write_labelme_file(tmp_path / name, "a")
    source = LabelmeSource(tmp_path)
    assert source.parts == ["train", "val", "test"]
    assert [[record.name for record in source.read(part)] for part in source.parts] == [
        ["Training/a.png"],
        ["valid/a.png"],
        ["Test/a.png"],
    ]


def test_parts_by_other_names_are_not_pooled(tmp_path: Path) -> None:
    for name in ("train_images", "test_images"):
        write_labelme_file(tmp_path / name, "a")
    with pytest.raises(UserError, match=r"test_images/ and train_images/ look like parts"):
        LabelmeSource(tmp_path)


def test_records_of_a_part_are_sorted_by_name(tmp_path: Path) -> None:
    for name in ("train/b", "train/sub/a", "train/a", "test/c"):
        write_labelme_file((tmp_path / name).parent, Path(name).name)
    source = LabelmeSource(tmp_path)
    assert [record.name for record in source.read("train")] == ["train/a.png", "train/b.png", "train/sub/a.png"]
    (record,) = source.read("test")
    assert (record.path, record.annotated_by) == (tmp_path / "test/c.png", tmp_path / "test/c.json")
    assert record.stated_size == (40, 60)
    assert record.load().pixels.shape == (40, 60)
    assert record.embedded is None


@pytest.mark.parametrize(("stated", "name"), [("x\\gone.tif", "one.tif"), (None, "one.png")])
def test_an_embedded_image_is_named_after_its_file(tmp_path: Path, stated: str | None, name: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60), dtype=np.uint8)
    path = write_labelme_file(tmp_path, imageData=png(pixels), imagePath=REMOVE if stated is None else stated)
    (tmp_path / "one.png").unlink()
    record = labelme_record(parse_labelme(path), tmp_path)
    assert (record.name, record.path) == (name, path)
    assert record.embedded is not None
    assert record.embedded().startswith(b"\x89PNG")
    np.testing.assert_array_equal(record.load().pixels, pixels)


def test_broken_files_are_named_together(tmp_path: Path) -> None:
    for stem in ("a", "b", "c", "d", "e"):
        write_labelme_file(tmp_path, stem)
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.png").unlink()
    (tmp_path / "c.json").write_text((tmp_path / "c.json").read_text().replace('"imageWidth": 60', '"imageWidth": 61'))
    (tmp_path / "d.json").write_text('{"shapes": [3]}')
    with pytest.raises(UserError) as caught:
        LabelmeSource(tmp_path).read("all")
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in ("a.json", "b.png", "61x40", "1 more broken files"))


def test_other_json_files_are_passed_over_unless_there_is_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "notes.json").write_text('{"who": "me"}')
    with pytest.raises(UserError, match=r"notes\.json is not a Labelme file"):
        LabelmeSource(tmp_path).read("all")
    write_labelme_file(tmp_path)
    assert len(LabelmeSource(tmp_path).read("all")) == 1
    assert "notes.json is not a Labelme file" in caplog.text


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path} has no Labelme annotations"):
        LabelmeSource(tmp_path).read("all")


def test_skipped_shapes_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_labelme_file(tmp_path, "a", [shape([[1, 1]], kind="point"), shape([[1, 1], [2, 2]])])
    LabelmeSource(tmp_path).read("all")
    assert "shapes that are not instances, left out: 1 degenerate, 1 point" in caplog.text


def test_notices_are_shown_up_to_a_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(5):
        write_labelme_file(tmp_path, f"image{number}", imagePath="before.png")
    LabelmeSource(tmp_path).read("all")
    assert caplog.text.count("of the same name") == 3
    assert "2 more notices of this kind" in caplog.text


def test_two_files_for_one_image_are_refused(tmp_path: Path) -> None:
    write_labelme_file(tmp_path, "a")
    write_labelme_file(tmp_path, "b", imagePath="a.png")
    with pytest.raises(UserError, match=r"a\.png is annotated by two JSON files"):
        LabelmeSource(tmp_path).read("all")
