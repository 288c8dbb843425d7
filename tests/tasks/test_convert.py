from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.data.coco import CocoSource
from tests.conftest import run_task


def test_converts_into_the_run_directory_and_back(labelme_root: Path, tmp_path: Path) -> None:
    there = run_task(tmp_path / "there", "task=convert", f"data.root='{labelme_root}'", "convert.to=coco")
    assert CocoSource(there / "coco").parts == ["train", "val", "test"]
    back = run_task(
        tmp_path / "back", "task=convert", "data=coco", f"data.root='{there / 'coco'}'", "convert.to=labelme"
    )
    names = sorted(path.relative_to(back / "labelme") for path in (back / "labelme").rglob("*.*"))
    assert names == sorted(path.relative_to(labelme_root) for path in labelme_root.rglob("*.*"))


@pytest.mark.parametrize("overrides", [[], ["convert.to=labelme"], ["convert.to=yolo"]])
def test_a_wrong_target_is_an_error_of_one_line(
    labelme_root: Path, tmp_path: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run_task(tmp_path / "run", "task=convert", f"data.root='{labelme_root}'", *overrides)
    assert stopped.value.code == 2
    assert "convert.to" in capsys.readouterr().err
