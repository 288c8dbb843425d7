"""The registry: what is added to it works everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.convert import convert_dataset
from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.formats import DEFAULT, FORMATS, format_named
from kemr_lightning.data.labelme import read_labelme
from kemr_lightning.data.synthetic import MetaphaseSettings, SyntheticDataset, write_synthetic_folder
from tests.data.helpers import BoxFormat, WritableBoxFormat, write_box_file

SMALL = MetaphaseSettings((160, 128))


@pytest.fixture
def boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a format that is added while the program runs."""
    monkeypatch.setitem(FORMATS, "boxes", WritableBoxFormat())
    for part, stems in {"train": "ab", "val": "c", "test": "d"}.items():
        for stem in stems:
            write_box_file(tmp_path / "in" / part, stem)
    return tmp_path / "in"


def test_formats_have_the_names_they_are_registered_by() -> None:
    names = ["labelme", "coco", "voc", "yolo", "cvat", "label_studio"]
    assert {name: chosen.name for name, chosen in FORMATS.items()} == {name: name for name in names}
    assert DEFAULT in FORMATS
    conf = Path(__file__).parents[2] / "conf" / "data"
    assert all((conf / f"{chosen.config}.yaml").is_file() for chosen in FORMATS.values())


def test_unknown_formats_are_named_with_the_known_ones() -> None:
    assert format_named("coco") is FORMATS["coco"]
    with pytest.raises(SettingError) as caught:
        format_named("dota", "target")
    known = "coco, cvat, label_studio, labelme, voc, yolo"
    assert str(caught.value.under("convert", target="to")) == f"convert.to=dota is unknown. Use one of {known}"


def test_a_new_format_is_trained_and_tested_on(boxes: Path) -> None:
    data = SegmentationDataModule(boxes, format="boxes")
    data.setup("fit")
    data.setup("test")
    assert data.train is not None
    assert data.test is not None
    assert [sample.name for sample in (data.train[0], data.train[1], data.test[0])] == [
        "train/a.png",
        "train/b.png",
        "test/d.png",
    ]
    instances = data.train[0].instances
    assert instances is not None
    assert instances.boxes.tolist() == [[5, 5, 20, 15], [30, 10, 40, 35]]


def test_a_new_format_is_converted_both_ways(boxes: Path, tmp_path: Path) -> None:
    convert_dataset(boxes, "boxes", "coco", tmp_path / "coco")
    coco = COCO(str(tmp_path / "coco/train/annotations.json"))
    assert [annotation["bbox"] for annotation in coco.imgToAnns[1]] == [[5, 5, 15, 10], [30, 10, 10, 25]]
    convert_dataset(boxes, "boxes", "labelme", tmp_path / "labelme")
    assert read_labelme(tmp_path / "labelme/val/c.json").instances.boxes.tolist() == [[5, 5, 20, 15], [30, 10, 40, 35]]
    for name in ("coco", "labelme"):
        convert_dataset(tmp_path / name, name, "boxes", tmp_path / f"from_{name}")
        back = json.loads((tmp_path / f"from_{name}/test/d.box").read_text())
        assert back == {"boxes": [[5, 5, 20, 15], [30, 10, 40, 35]]}


def test_synthetic_folders_are_written_in_a_new_format(boxes: Path, tmp_path: Path) -> None:
    root = write_synthetic_folder(tmp_path / "set", 1, 0, 0, "boxes", SMALL, seed=4)
    written = json.loads((root / "train/synthetic_00001.box").read_text())["boxes"]
    instances = SyntheticDataset(1, SMALL, seed=4)[0].instances
    assert instances is not None
    assert written == instances.boxes.tolist()
    assert boxes.is_dir()


def test_a_format_that_is_only_read_is_not_written(
    boxes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS, "boxes", BoxFormat())
    convert_dataset(boxes, "boxes", "coco", tmp_path / "coco")
    with pytest.raises(SettingError, match="target=boxes can be read but not written"):
        convert_dataset(tmp_path / "coco", "coco", "boxes", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    with pytest.raises(SettingError, match="format=boxes can be read but not written"):
        write_synthetic_folder(tmp_path / "set", 1, 0, 0, "boxes", SMALL)
    assert not (tmp_path / "set").exists()
