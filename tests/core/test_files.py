"""A file is written atomically."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kemr_lightning.core.files import (
    UNFINISHED,
    atomic_write,
    finite,
    remove_unfinished,
    write_csv,
    write_json,
    write_text,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "metrics.json"
    write_text(path, "old")

    def fail() -> None:
        with atomic_write(path) as temporary:
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


def test_what_json_can_hold_of_data() -> None:
    nan, infinity = float("nan"), float("-inf")
    assert finite({"a": (1.5, nan, [infinity, "x"]), 3: {"b": nan}}) == {"a": [1.5, None, [None, "x"]], 3: {"b": None}}
    assert finite(nan) is None
    assert finite(7) == 7
    assert finite(None) is None
    assert finite("nan") == "nan"


def test_tables_have_neither_formulas_nor_nan(tmp_path: Path) -> None:
    rows = [{"name": "=1+1", "value": 0.1 + 0.2}, {"name": 'a, "b"\nc', "value": float("nan")}, {"name": "ü"}]
    write_csv(tmp_path / "a.csv", ["name", "value"], rows)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as stream:
        found = list(csv.DictReader(stream))
    assert [row["name"] for row in found] == ["'=1+1", 'a, "b"\nc', "ü"]
    assert [row["value"] for row in found] == [str(0.1 + 0.2), "", ""]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_long_names_and_what_a_killed_process_leaves(tmp_path: Path) -> None:
    path = tmp_path / "deep" / ("ä" * 125 + ".json")  # 255 bytes, the most that a name may have
    write_text(path, "whole")
    (tmp_path / "deep" / f"{UNFINISHED}abc_efg1.png").write_bytes(b"half")
    (tmp_path / f"{UNFINISHED}thesis.png").write_bytes(b"somebody's")
    remove_unfinished(tmp_path, older_than=60)
    assert (tmp_path / "deep" / f"{UNFINISHED}abc_efg1.png").exists()
    remove_unfinished(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted([f"{UNFINISHED}thesis.png", "deep", path.name])
    with atomic_write(path) as temporary:
        assert temporary.name.startswith(UNFINISHED)
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_text_that_is_a_number_stays_one_in_a_table(tmp_path: Path) -> None:
    values = ["-1", "+2.5", "-1e-3", "=1+1", "-x", "-1 ", "-inf"]
    write_csv(tmp_path / "t.csv", ["a"], [{"a": value} for value in values])
    cells = (tmp_path / "t.csv").read_text().split("\n")[1:-1]
    assert cells == ["-1", "+2.5", "-1e-3", "'=1+1", "'-x", "'-1 ", "'-inf"]
