from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kemr_lightning.assembly.settings import read_settings
from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.formats import FORMATS
from kemr_lightning.doctor.settings import DoctorSettings
from kemr_lightning.tasks.doctor import options_of
from tests.conftest import compose, run_task, write_labelme_root
from tests.data.helpers import BoxFormat, write_box_file


def test_writes_json_and_a_page_and_passes_warnings(
    labelme_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = run_task(tmp_path / "run", "task=doctor", f"data.root='{labelme_root}'")
    found = json.loads((run_dir / "doctor.json").read_text())
    assert (found["images"], found["instances"], found["errors"]) == (8, 32, 0)
    assert found["parts"]["train"] == {"images": 4, "instances": 16}
    assert found["labels"] == {"chr": {"count": 32, "becomes": "chromosome", "mapped": True}}
    assert found["kinds"]["count"]["count"] == 8
    assert found["warnings"] == sum(kind["count"] for kind in found["kinds"].values())
    page = (run_dir / "doctor.html").read_text()
    assert page.count("<figure>") >= 8
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)  # nothing from elsewhere
    shown = capsys.readouterr().out
    assert "unusual number of chromosomes" in shown
    assert "0 errors" in shown


def test_errors_give_exit_code_1_and_everything_is_written(tmp_path: Path) -> None:
    root = write_labelme_root(tmp_path / "data")
    (root / "train/train_0.json").write_text("{")
    with pytest.raises(SystemExit) as stopped:
        run_task(tmp_path / "run", "task=doctor", f"data.root='{root}'")
    assert stopped.value.code == 1
    found = json.loads((tmp_path / "run/doctor.json").read_text())
    assert [f["file"] for f in found["findings"] if f["severity"] == "error"] == ["train/train_0.json"]
    assert "train_0.json" in (tmp_path / "run/doctor.html").read_text()


def test_lists_of_names_make_the_parts(labelme_root: Path, tmp_path: Path) -> None:
    root = f"data.root='{labelme_root}'"
    lists = "data.lists={train: [train_0, train_1], test: [train_1, train_2]}"
    with pytest.raises(SystemExit) as stopped:
        run_task(tmp_path / "run", "task=doctor", root, lists)
    assert stopped.value.code == 1
    found = json.loads((tmp_path / "run/doctor.json").read_text())
    assert {part: counts["images"] for part, counts in found["parts"].items()} == {"train": 2, "test": 2}
    assert [f["file"] for f in found["findings"] if f["kind"] == "same_image_parts"] == ["train/train_1.png"]


def test_names_in_the_page_are_escaped(tmp_path: Path) -> None:
    root = write_labelme_root(tmp_path / "data")
    (root / "train/<b>.json").write_text("{")
    with pytest.raises(SystemExit):
        run_task(tmp_path / "run", "task=doctor", f"data.root='{root}'", "doctor.pictures=0")
    page = (tmp_path / "run/doctor.html").read_text()
    assert "&lt;b&gt;" in page
    assert "<figure>" not in page


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.root=nowhere"], "data.root=nowhere is not a folder"),
        (["data=synthetic"], "task=doctor looks at a folder"),
        ([], "data.root is not given"),
        (
            ["data.root=.", "data.format=dota"],
            "data.format=dota is unknown. Use one of coco, cvat, label_studio, labelme, voc, yolo",
        ),
        (["data.root=.", "doctor.listed=-1"], "doctor.listed=-1 is not a number. Give a whole number from 0"),
        (["data.root=.", "doctor.expected=many"], "doctor.expected=many is not a number"),
        (["data.root=.", "doctor.anchor_misfits=2"], "doctor.anchor_misfits=2 is out of range"),
        (["data.root=.", "data.label_map=merge"], "data.label_map=merge is unknown"),
        (
            ["data.root=.", "data.lists={trian: [a]}"],
            "data.lists.trian=['a'] is not a setting. Did you mean data.lists.train?",
        ),
    ],
)
def test_a_wrong_setting_is_an_error_of_one_line(
    tmp_path: Path,
    overrides: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(SystemExit) as stopped:
        run_task(tmp_path / "run", "task=doctor", *overrides)
    assert stopped.value.code == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert shown[0].startswith(f"error: {message}")


def test_settings_come_from_the_configuration() -> None:
    config = compose(
        *("task=doctor", "data.root=x", "doctor.expected=null", "data.resize=[320,256]"),
        *("data.lists={test: [a]}", "model=cascade_mask_rcnn_r101"),
    )
    settings = read_settings(config, "doctor", DoctorSettings)
    assert settings == DoctorSettings(expected=None)
    options = options_of(config, settings)
    assert options.expected is None
    assert options.resize == [320, 256]
    assert options.lists == {"test": ["a"]}
    assert len(options.anchor_sizes or ()) == 5
    with pytest.raises(SettingError, match=r"doctor\.pictures=null"):
        read_settings(compose("task=doctor", "data.root=x", "doctor.pictures=null"), "doctor", DoctorSettings)


def test_a_format_that_is_added_later_is_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "boxes", BoxFormat())
    write_box_file(tmp_path / "data", "a")
    root = f"data.root='{tmp_path / 'data'}'"
    run_dir = run_task(tmp_path / "run", "task=doctor", root, "data.format=boxes")
    found = json.loads((run_dir / "doctor.json").read_text())
    assert (found["format"], found["instances"], found["errors"]) == ("boxes", 2, 0)


def test_the_model_decides_about_anchors(labelme_root: Path, tmp_path: Path) -> None:
    root = f"data.root='{labelme_root}'"
    for model, has in (("blendmask_tiny", False), ("cascade_mask_rcnn_r101", True)):
        run_dir = run_task(tmp_path / model, "task=doctor", root, f"model={model}")
        assert (json.loads((run_dir / "doctor.json").read_text())["anchors"] is not None) == has
