"""Digests: published values, the same content wherever it lies, changed files noticed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from kemr_lightning.core import digests
from kemr_lightning.core.digests import data_digest, file_digest, remembered_digest, settings_digest

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""SHA-256 of ``abc``, as FIPS 180-2 gives it."""


def test_published_values(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert data_digest(b"abc") == ABC
    assert file_digest(tmp_path / "a") == ABC
    assert file_digest(str(tmp_path / "a")) == ABC
    assert remembered_digest(tmp_path / "a") == ABC


def test_a_missing_file(tmp_path: Path) -> None:
    for digest in (file_digest, remembered_digest):
        with pytest.raises(OSError, match="none"):
            digest(tmp_path / "none")


def test_a_digest_is_computed_once_while_the_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: str | Path) -> str:
        read.append(Path(path))
        return file_digest(path)

    monkeypatch.setattr(digests, "file_digest", counted)
    file = tmp_path / "large"
    file.write_bytes(b"abc")
    assert [remembered_digest(file), remembered_digest(tmp_path / "." / "large")] == [ABC, ABC]
    assert len(read) == 1
    file.write_bytes(b"abd")
    os.utime(file, ns=(1, 1))  # another time, whatever the file system's clock
    assert remembered_digest(file) == hashlib.sha256(b"abd").hexdigest()
    assert len(read) == 2


def test_settings_differ_where_values_do() -> None:
    same = {settings_digest({"a": 1, "b": [0.5, None]}, "x"), settings_digest({"b": [0.5, None], "a": 1}, "x")}
    assert len(same) == 1
    others = {
        settings_digest(*parts)
        for parts in ([{"a": 1}, "x"], [{"a": "1"}, "x"], [{"a": 1.0}, "x"], ["x", {"a": 1}], [{"a": 1}], [Path("x")])
    }
    assert len(others) == 6
    assert settings_digest(Path("x")) == settings_digest("x")  # by its text
    assert len(settings_digest()) == 20
