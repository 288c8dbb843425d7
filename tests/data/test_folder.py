"""Files of a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.folder import read_json, walk


def test_files_are_found_in_order_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", "sub/c.png", ".hidden.png", ".cache/d.png", "e.txt", "Zürich.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path, [".png"])]
    assert names == ["Zürich.png", "a.PNG", "b.png", "sub/c.png"]


def test_a_name_that_is_not_text_is_refused(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(UserError, match="Rename the file"):
        walk(tmp_path, [".png"])


def test_json_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for start in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(start + b'{"a": [1]}')
        assert read_json(path, "Mend it.") == {"a": [1]}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_named_with_the_cure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json is not valid JSON \(.*\)\. Mend it\.$"):
        read_json(tmp_path / "a.json", "Mend it.")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot open .*a\.json"):
        read_json(tmp_path / "a.json", "Mend it.")
