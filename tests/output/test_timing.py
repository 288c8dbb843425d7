"""Recorded times are read, or taken for unknown."""

from __future__ import annotations

from pathlib import Path

from kemr_lightning.core.run_directory import TIMING
from kemr_lightning.output.timing import read_timing


def test_what_was_recorded(tmp_path: Path) -> None:
    (tmp_path / TIMING).write_text('{"training": {"seconds": 2.5}}')
    assert read_timing(tmp_path) == {"training": {"seconds": 2.5}}


def test_a_missing_or_broken_file_is_no_timing(tmp_path: Path) -> None:
    assert read_timing(tmp_path) == {}
    for broken in ("[1", "[1]"):
        (tmp_path / TIMING).write_text(broken)
        assert read_timing(tmp_path) == {}
