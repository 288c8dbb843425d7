"""What surveys of all formats share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from kemr_lightning.data.survey import bare_image, images_besides, without_path


def test_images_that_nothing_uses(tmp_path: Path) -> None:
    for name in ("a.png", "train/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 5), 7, dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "c.json").touch()
    assert images_besides(tmp_path, {tmp_path / "a.png"}) == [tmp_path / "train/b.png"]
    image = bare_image(tmp_path, tmp_path / "train/b.png", ["train", "test"])
    assert (image.record.name, image.part, image.record.annotations) == ("train/b.png", "train", None)
    assert image.decode is not None
    assert image.decode().pixels.tolist() == [[7] * 5] * 4
    assert bare_image(tmp_path, tmp_path / "a.png", ["train", "test"]).part == "all"


def test_a_message_does_not_repeat_the_path() -> None:
    path = Path("x/a.json")
    assert without_path("x/a.json: shape 1 is odd", path) == "shape 1 is odd"
    assert without_path("x/a.json is odd", path) == "is odd"
    assert without_path("cannot open x/a.json", path) == "cannot open x/a.json"
