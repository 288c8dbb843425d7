from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.assembly.settings import read_settings
from kemr_lightning.data.coco.source import CocoSource
from kemr_lightning.data.convert import ConvertSettings
from kemr_lightning.data.formats import FORMATS
from tests.conftest import compose, run_task
from tests.data.helpers import WritableBoxFormat, coco_document, write_coco_file


def test_converts_into_the_run_directory_and_back(labelme_root: Path, tmp_path: Path) -> None:
    there = run_task(tmp_path / "there", "task=convert", f"data.root='{labelme_root}'", "convert.to=coco")
    assert CocoSource(there / "coco").parts == ["train", "val", "test"]
    back = run_task(
        tmp_path / "back", "task=convert", "data=coco", f"data.root='{there / 'coco'}'", "convert.to=labelme"
    )
    names = sorted(path.relative_to(back / "labelme") for path in (back / "labelme").rglob("*.*"))
    assert names == sorted(path.relative_to(labelme_root) for path in labelme_root.rglob("*.*"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "task=convert needs the format to write. Give convert.to=labelme or convert.to=coco"),
        (["convert.to=labelme"], "convert.to=labelme is the format that the data have already. Choose coco"),
        (["convert.to=dota"], "convert.to=dota is unknown. Use one of coco, cvat, label_studio, labelme, voc, yolo"),
        (["convert.to=coco", "convert.shape_type=star"], "convert.shape_type=star is unknown. Use polygon or mask"),
        (["convert.to=coco", "convert.min_iou=2"], "convert.min_iou=2 is out of range"),
        (
            ["convert.to=coco", "+convert.foo=4"],
            "convert.foo=4 is not a setting. The settings are to, shape_type, min_iou, relabel",
        ),
        (["convert=null"], "convert=null is not a group of settings. Leave it as it is, or set convert.to"),
        (["convert.to=coco", "convert.relabel=null"], "convert.relabel=null is neither true nor false"),
        (["convert.to=coco", "data.format=dota"], "data.format=dota is unknown"),
        (["convert.to=coco", "data.root=nowhere"], "data.root=nowhere is not a folder. Give the folder that holds"),
        (
            ["convert.to=coco", "convert.relabel=true", "data.label_map={a: b}"],
            "data.label_map={a} does not name the label 'chr' of train/train_0.png",
        ),
        (["convert.to=coco", "data=synthetic"], "task=convert works on a folder. Name it: data=labelme data.root=DIR"),
    ],
)
def test_a_wrong_setting_is_an_error_of_one_line_that_names_its_key(
    labelme_root: Path, tmp_path: Path, overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = [] if "data=synthetic" in overrides else [f"data.root='{labelme_root}'"]
    with pytest.raises(SystemExit) as stopped:
        run_task(tmp_path / "run", "task=convert", *root, *overrides)
    assert stopped.value.code == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert shown[0].startswith(f"error: {message}")


def test_labels_are_renamed_on_request_only(labelme_root: Path, tmp_path: Path) -> None:
    common = ("task=convert", f"data.root='{labelme_root}'", "convert.to=coco", "data.label_map={chr: rod}")
    for words, name in (((), "chr"), (("convert.relabel=true",), "rod")):
        there = run_task(tmp_path / name, *common, *words)
        source = CocoSource(there / "coco")
        records = [record for part in source.parts for record in source.read(part)]
        assert {a.label for record in records for a in record.annotations or ()} == {name}


def test_configured_settings_are_the_defaults() -> None:
    config = compose("task=convert", "data.root=x", "convert.to=coco")
    assert read_settings(config, "convert", ConvertSettings) == ConvertSettings("coco")


def test_a_format_that_is_added_later_is_written_and_named(
    labelme_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(FORMATS, "boxes", WritableBoxFormat())
    caplog.set_level("INFO", "kemr_lightning")
    there = run_task(tmp_path / "there", "task=convert", f"data.root='{labelme_root}'", "convert.to=boxes")
    assert len(list((there / "boxes").rglob("*.box"))) == 8
    assert f"to use it: data.format=boxes data.root={there / 'boxes'}" in caplog.text
    root = f"data.root='{there / 'boxes'}'"
    back = run_task(tmp_path / "back", "task=convert", root, "data.format=boxes", "convert.to=coco")
    assert CocoSource(back / "coco").parts == ["train", "val", "test"]
    assert f"to use it: data=coco data.root={back / 'coco'}" in caplog.text


def test_what_was_lost_and_what_became_a_rectangle_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_coco_file(tmp_path / "boxes", coco_document([{}, {"bbox": [3, 4, 20, 10]}]))
    write_coco_file(tmp_path / "outside", coco_document([{"segmentation": [[200, 200, 210, 200, 210, 210]]}]))
    for name in ("boxes", "outside"):
        root = f"data.root='{tmp_path / name}'"
        run_task(tmp_path / f"run {name}", "task=convert", "data=coco", root, "convert.to=labelme")
    assert "2 annotations have a box and no mask. They are rectangles now" in caplog.text
    assert "1 annotations cover no pixel of their image, left out" in caplog.text
