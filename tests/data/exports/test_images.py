"""Images by the names that exports give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.data.exports.images import ImageIndex, part_of
from tests.data.exports.helpers import draw


@pytest.mark.parametrize(
    ("stated", "near", "expected"),
    [
        ("cell_0.png", "x.xml", "cell_0.png"),
        ("cell_0", "x.xml", "cell_0.png"),
        ("C:\\data\\cell_0.png", "x.xml", "cell_0.png"),
        ("/data/upload/3/01234abc-cell_0.png", "x.xml", "cell_0.png"),
        ("a.png", "x.xml", None),
        ("train/a.png", "x.xml", "images/train/a.png"),
        ("a.png", "labels/test/a.txt", "images/test/a.png"),
        ("none.png", "x.xml", None),
        ("", "x.xml", None),
    ],
)
def test_the_image_that_is_meant(tmp_path: Path, stated: str, near: str, expected: str | None) -> None:
    for name in ("cell_0.png", "images/train/a.png", "images/test/a.png"):
        draw(tmp_path / name, "cell_0")
    found = ImageIndex(tmp_path).find(stated, tmp_path / near)
    assert found == (None if expected is None else tmp_path / expected)


def test_the_innermost_folder_of_a_part_counts() -> None:
    assert part_of(("test", "x", "train", "images")) == "train"
    assert part_of(("images",)) is None
