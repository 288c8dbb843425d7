"""``task=outline`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from tests.conftest import run_task
from tests.outlining.helpers import scene


@pytest.fixture
def boxed(tmp_path: Path) -> Path:
    root = tmp_path / "boxed"
    root.mkdir()
    image, boxes, _ = scene()
    cv2.imwrite(str(root / "cell.png"), image)
    annotations = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
        for n, (x0, y0, x1, y1) in enumerate(boxes.tolist(), start=1)
    ]
    images = [{"id": 1, "file_name": "cell.png", "width": 220, "height": 300}]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "c"}]}
    (root / "boxes.json").write_text(json.dumps(document))
    return root


def test_writes_coco_files_with_masks(boxed: Path, tmp_path: Path) -> None:
    run = run_task(tmp_path / "run", "task=outline", "data=coco", f"data.root='{boxed}'", "outline.model=false")
    written = json.loads((run / "outlined" / "annotations.json").read_text())
    assert [("segmentation" in annotation) for annotation in written["annotations"]].count(True) == 6


def test_the_shipped_model_helps_by_default(boxed: Path, tmp_path: Path) -> None:
    run = run_task(tmp_path / "run", "task=outline", "data=coco", f"data.root='{boxed}'")
    assert (run / "outlined" / "cell.png").read_bytes() == (boxed / "cell.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["outline.model=maybe"], "outline.model=maybe is neither true nor false"),
        (["outline.iou=2"], "outline.iou=2 is not a fraction"),
        (["+outline.foo=1"], "outline.foo=1 is not a setting"),
        (["data.root=nowhere"], "data.root=nowhere is not a folder"),
    ],
)
def test_wrong_settings_are_named(
    boxed: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_task(tmp_path / "run", "task=outline", "data=coco", f"data.root='{boxed}'", "outline.model=false", *words)
    assert message in capsys.readouterr().err
