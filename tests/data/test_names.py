"""Files under other spellings of their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.data.names import AmbiguousNameError, find_alike, same_name


def test_spellings_of_one_name() -> None:
    names = ("Zelle \u00dc.png", "zelle u\u0308.PNG", "ZELLE%20%C3%9C.png", "Zelle%20U\u0308.png")
    assert len({same_name(name) for name in names}) == 1
    assert same_name("a\\b") == same_name("A/b")
    assert same_name("a1") != same_name("a2")


@pytest.mark.parametrize(
    "name", ["SUB/Cell 1.PNG", "sub/cell%201.png", "sub%2Fcell 1.png", "../data/Sub/CELL 1.png", "x/../sub/cell 1.Png"]
)
def test_the_only_file_that_is_meant(tmp_path: Path, name: str) -> None:
    root = tmp_path / "data"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "cell 1.png").touch()
    assert find_alike(name, [root / "nowhere", root], root) == root / "sub" / "cell 1.png"
    assert find_alike("../" + name, [root], root / "sub") is None
    assert find_alike("sub/cell 2.png", [root], root) is None
    assert find_alike("sub", [root], root) is None


def test_several_files_are_listed(tmp_path: Path) -> None:
    for name in ("a.PNG", "A.png"):
        (tmp_path / name).touch()
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not distinguish case")
    with pytest.raises(AmbiguousNameError, match=r"'a\.png' may be any of 2 files: A\.png, a\.PNG\. Rename"):
        find_alike("a.png", [tmp_path], tmp_path)
