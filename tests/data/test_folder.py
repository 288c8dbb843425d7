"""Files of a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.folder import READ_SUFFIXES, check_links, read_json, walk


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


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000])
def test_what_is_no_json_is_named_with_the_cure(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json is not valid JSON \(.*\)\. Mend it\.$"):
        read_json(tmp_path / "a.json", "Mend it.")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot open .*a\.json"):
        read_json(tmp_path / "a.json", "Mend it.")


def linked(root: Path, place: str, target: Path) -> None:
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(target)


def touched(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in walk(root, [".png"])]


def test_links_that_stay_inside_are_followed_and_each_folder_is_read_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    touched(root / "slides/b/1.png", root / "train/0.png")
    linked(root, "train/slideB", root / "slides/b")
    linked(root, "train/again", root / "slides/b")
    linked(root, "train/2.png", root / "slides/b/1.png")
    check_links(root, False, READ_SUFFIXES)
    assert names(root / "train") == ["0.png", "2.png", "again/1.png"]
    assert names(root) == ["slides/b/1.png", "train/0.png", "train/2.png"]  # by its own name, not a link's
    assert not caplog.text


@pytest.mark.parametrize(("place", "target"), [("train/slideB", "away"), ("train/x.png", "away/1.png")])
def test_a_link_out_of_the_root_is_refused_or_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str, target: str
) -> None:
    root = tmp_path / "root"
    touched(root / "train/0.png", tmp_path / "away/1.png")
    linked(root, place, tmp_path / target)
    with pytest.raises(
        SettingError, match=rf"^follow_links=false does not .*{place} -> .*{target}\. Copy .* give true"
    ):
        check_links(root, False, READ_SUFFIXES)
    check_links(root, True, READ_SUFFIXES)
    assert f"1 links that lead out of it are followed: {place} -> {tmp_path / target}" in caplog.text
    assert len(names(root)) == 2


def test_loops_and_links_to_nowhere_are_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touched(tmp_path / "train/0.png")
    linked(tmp_path, "train/up", tmp_path)
    linked(tmp_path, "train/self", tmp_path / "train")
    linked(tmp_path, "train/gone.png", tmp_path / "nothing.png")
    linked(tmp_path, "train/a.png", tmp_path / "train/b.png")
    linked(tmp_path, "train/b.png", tmp_path / "train/a.png")
    check_links(tmp_path, False, READ_SUFFIXES)
    assert names(tmp_path) == ["train/0.png"]
    assert names(tmp_path / "train") == ["0.png"]
    assert "5 links lead nowhere or to a folder that they lie in, passed over" in caplog.text


def test_other_links_do_not_matter(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touched(root / "0.png", tmp_path / "away/1.txt")
    linked(root, ".cache", tmp_path / "away")
    linked(root, "notes.txt", tmp_path / "away/1.txt")
    check_links(root, False, READ_SUFFIXES)
    (tmp_path / "link").symlink_to(root)
    check_links(tmp_path / "link", False, READ_SUFFIXES)  # the root itself may be one
    assert names(tmp_path / "link") == ["0.png"]


def test_a_deep_pair_of_links_ends(tmp_path: Path) -> None:
    touched(tmp_path / "a/0.png", tmp_path / "b/1.png")
    linked(tmp_path, "a/b", tmp_path / "b")
    linked(tmp_path, "b/a", tmp_path / "a")
    assert names(tmp_path) == ["a/0.png", "b/1.png"]
    assert names(tmp_path / "a") == ["0.png", "b/1.png"]
