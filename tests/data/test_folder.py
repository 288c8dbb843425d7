"""Walking through folders."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.folder import walk


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
