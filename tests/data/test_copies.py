"""Images that occur twice."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.copies import equal_files, refuse_copies
from kemr_lightning.data.image import read_image
from kemr_lightning.data.record import Record


def record(path: Path, content: bytes | None = None, embedded: bytes | None = None) -> Record:
    if content is not None:
        path.write_bytes(content)
    inside = None if embedded is None else lambda: embedded
    return Record(path.name, path, functools.partial(read_image, path), embedded=inside)


def test_files_of_one_content(tmp_path: Path) -> None:
    records = [
        record(tmp_path / "a.png", b"one"),
        record(tmp_path / "b.png", b"two"),
        record(tmp_path / "c.png", b"one"),
        record(tmp_path / "gone.png"),
        record(tmp_path / "d.json", b"{}", embedded=b"two"),
        record(tmp_path / "e.png", b"larger"),
    ]
    assert sorted(equal_files(records)) == [[0, 2], [1, 4]]


def test_an_image_is_in_one_part(tmp_path: Path) -> None:
    one, two = record(tmp_path / "a.png", b"one"), record(tmp_path / "b.png", b"one")
    refuse_copies({"train": [one, two], "test": [record(tmp_path / "c.png", b"two")]})
    with pytest.raises(UserError, match=r"a\.png is in two parts, train and test\. Keep it in one"):
        refuse_copies({"train": [one], "test": [one]})
    with pytest.raises(UserError, match=r"a\.png \(train\) and b\.png \(val\) are the same image in two parts"):
        refuse_copies({"train": [one], "val": [two]})
