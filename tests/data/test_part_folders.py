"""Folders that are parts, and folders that look like parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.part_folders import part_folders, refuse_hidden_parts, unused_folders, warn_of_unused


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "a.png").touch()


def test_parts_in_their_order(tmp_path: Path) -> None:
    make(tmp_path, "Testing", "VALID", "Train", "other", ".val")
    (tmp_path / "val").mkdir()  # empty
    assert part_folders(tmp_path) == {
        part: tmp_path / name for part, name in (("train", "Train"), ("val", "VALID"), ("test", "Testing"))
    }
    assert part_folders(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(("one", "two"), [("val", "valid"), ("train", "Training"), ("test", "test2017")])
def test_two_folders_of_one_part_are_named(tmp_path: Path, one: str, two: str) -> None:
    make(tmp_path, one, two)
    with pytest.raises(UserError, match=f"({one}/ and {two}/|{two}/ and {one}/) both stand for the part"):
        part_folders(tmp_path)


def test_folders_that_are_not_used_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "train", "old_test", "others")
    names = unused_folders(tmp_path, [tmp_path / "train"])
    assert names == ["old_test"]
    warn_of_unused(tmp_path, names)
    assert "old_test/ look like parts of the data set and are not used" in caplog.text


def test_parts_that_would_be_pooled_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "a", "train_images", "my test")
    make(tmp_path / "b", "data/train", "data/test")
    make(tmp_path / "c", "test_1", "test_2", "slide/val")
    for name, found in (("a", "my test/ and train_images/"), ("b", "data/test/ and data/train/")):
        with pytest.raises(UserError, match=found):
            refuse_hidden_parts(tmp_path / name)
    refuse_hidden_parts(tmp_path / "c")
