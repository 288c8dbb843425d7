"""Labelme itself opens, changes and saves what is predicted; ``KEMR_LABELME`` names a Python that has Labelme 6.

    python -m venv labelme-env && labelme-env/bin/pip install 'labelme>=6'
    KEMR_LABELME=labelme-env/bin/python pytest tests/labelme_program

``KEMR_KEEP_SCREENSHOT=FILE.png`` keeps the screenshot. It runs under ``xvfb-run`` where there is one, else in Qt's
own off-screen mode.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kemr_lightning.data.labelme import read_labelme
from kemr_lightning.prediction.settings import PredictSettings
from tests.conftest import write_image
from tests.data.helpers import iou
from tests.prediction.helpers import predict_folder

PYTHON = os.environ.get("KEMR_LABELME")
pytestmark = pytest.mark.skipif(PYTHON is None, reason="KEMR_LABELME names no Python with Labelme")

DRIVER = Path(__file__).with_name("drive.py")


def drive(folder: Path, name: str, screenshot: Path) -> dict[str, Any]:
    """Run the program on a folder; what it did."""
    frame = ["xvfb-run", "-a", "-s", "-screen 0 1600x1200x24"] if shutil.which("xvfb-run") else []
    platform = {} if frame else {"QT_QPA_PLATFORM": "offscreen"}
    home = folder.parent / "home"
    home.mkdir(exist_ok=True)
    command = [*frame, str(PYTHON), str(DRIVER), str(folder), name, str(screenshot)]
    environment = {**os.environ, **platform, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


@pytest.mark.parametrize("shape_type", ["polygon", "mask"])
def test_a_shape_is_moved_and_everything_else_stays(tmp_path: Path, shape_type: str) -> None:
    root = tmp_path / "in"
    for index in range(3):
        write_image(root, f"image_{index}", seed=index, annotated=False)
    predict_folder(root, tmp_path / "run", PredictSettings(expected=40, shape_type=shape_type))
    folder = tmp_path / "run" / "labelme"
    before = json.loads((folder / "image_1.json").read_text())
    masks = read_labelme(folder / "image_1.json").instances.masks().numpy()
    screenshot = Path(os.environ.get("KEMR_KEEP_SCREENSHOT", tmp_path / "labelme.png"))
    done = drive(folder, "image_1", screenshot)
    assert int(done["labelme"].split(".")[0]) >= 6
    assert done["files"] == 3
    assert done["shapes"] == len(before["shapes"])
    assert done["was_dirty"]
    assert screenshot.stat().st_size > 10_000
    after = json.loads((folder / "image_1.json").read_text())
    assert after["flags"] == before["flags"]
    assert after["imagePath"] == before["imagePath"]
    assert after["imageData"] is None
    shifts = np.array(done["after"]) - np.array(done["before"])
    assert np.allclose(shifts, shifts[0])
    assert (shifts[0] > 0).all()
    for index, (was, now) in enumerate(zip(before["shapes"], after["shapes"], strict=True)):
        shift = shifts[0] if index == done["moved"] else 0
        np.testing.assert_allclose(now["points"], np.array(was["points"]) + shift, atol=1e-6)
        for key in ("label", "group_id", "description", "flags", "shape_type"):
            assert now[key] == was[key]
    image, found = read_labelme(folder / "image_1.json")
    assert image is not None
    assert len(found) == len(
        {(s["group_id"], i if s["group_id"] is None else 0) for i, s in enumerate(after["shapes"])}
    )
    assert all(0.5 <= score <= 1 for score in found.scores.tolist())
    # What is read is what was moved, by as much, and nothing else: the drawing follows the shape to parts of a pixel.
    changed = [index for index, mask in enumerate(found.masks().numpy()) if not np.array_equal(mask, masks[index])]
    assert len(changed) == 1
    across, down = (round(value) for value in shifts[0].tolist())
    wanted = np.zeros_like(masks[0])
    wanted[down:, across:] = masks[changed[0]][: wanted.shape[0] - down, : wanted.shape[1] - across]
    assert iou(found.masks()[changed[0]].numpy(), wanted) >= (0.99 if np.allclose(shifts[0] % 1, 0) else 0.9)
    assert iou(masks[changed[0]], wanted) < 0.9


def test_nothing_is_lost_where_nothing_was_changed(tmp_path: Path) -> None:
    """The other images of the folder are as they were written."""
    root = tmp_path / "in"
    for index in range(2):
        write_image(root, f"image_{index}", seed=index, annotated=False)
    predict_folder(root, tmp_path / "run")
    folder = tmp_path / "run" / "labelme"
    before = (folder / "image_0.json").read_bytes()
    drive(folder, "image_1", tmp_path / "labelme.png")
    assert (folder / "image_0.json").read_bytes() == before
