"""A file is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kemr_lightning.output.files import whole, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "metrics.json"
    write_text(path, "old")

    def fail() -> None:
        with whole(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["metrics.json"]


def test_json_keeps_floats_and_has_no_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    values = [0.1 + 0.2, 1 / 3, float("nan"), float("inf")]
    write_json(path, {"values": tuple(values)})
    assert json.loads(path.read_text()) == {"values": [values[0], values[1], None, None]}


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode
