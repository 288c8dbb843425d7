"""Pictures are written atomically, the same every time, and in colours that can be distinguished."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from kemr_lightning.output.drawing import COLOURS, NAMES, save, tidy


def figure() -> Figure:
    made = Figure(figsize=(2, 1), facecolor="white")
    axes = made.add_subplot()
    tidy(axes)
    axes.plot([0, 1], [0, 1])
    return made


def test_a_picture_has_its_size_and_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save(figure(), tmp_path / "folder" / name, dpi=50)
    assert Image.open(tmp_path / "folder" / "a.png").size == (100, 50)
    assert (tmp_path / "folder" / "a.png").read_bytes() == (tmp_path / "folder" / "b.png").read_bytes()


def test_a_picture_that_fails_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Figure, file: Path, **options: object) -> None:
        file.write_bytes(b"half a picture")
        raise OSError("disk full")

    save(figure(), tmp_path / "a.png", dpi=50)
    before = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        save(figure(), tmp_path / "a.png", dpi=50)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.png": before}


def test_colours_differ_in_brightness_for_those_who_see_no_colours() -> None:
    assert list(COLOURS) == list(NAMES)
    grey = [float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114))) for colour in COLOURS.values()]
    assert np.diff(sorted(grey)).min() > 0.02
