"""Images with their parts and groups, and files that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.formats import FORMATS
from kemr_lightning.data.record import MissingImageError
from kemr_lightning.doctor.gather import gather, load_error
from tests.data.helpers import BoxFormat, write_box_file
from tests.doctor.helpers import kinds, look, save, write_coco


def test_images_without_annotations_are_looked_at_too(tmp_path: Path) -> None:
    save(tmp_path / "train", "a", seed=1)
    save(tmp_path / "test", "b", seed=2)
    save(tmp_path / "test", "again", seed=1).unlink()
    save(tmp_path / "train", "turned", seed=2).unlink()
    turned = tmp_path / "train" / "turned.png"
    Image.fromarray(255 - np.rot90(np.asarray(Image.open(turned)))).save(turned)
    save(tmp_path / "train", "new", seed=3).unlink()
    (tmp_path / "train" / "bad.png").write_text("no image")
    diagnosis = look(tmp_path)
    found = {(f.kind, f.file, f.others) for f in diagnosis.findings if f.kind not in ("unannotated", "no_test")}
    assert found == {
        ("unannotated_copy", "test/again.png", ("train/a.png",)),
        ("unannotated_copy", "train/turned.png", ("test/b.png",)),
        ("broken_unannotated", "train/bad.png", ()),
    }
    assert not diagnosis.failed  # nothing of it is trained on or scored
    assert [image.name for image in diagnosis.images] == ["test/b.png", "train/a.png"]


def test_unreadable_images_that_no_coco_file_lists(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    write_coco(tmp_path, [], [])
    assert kinds(look(tmp_path, "coco"))["broken_unannotated"] == 1


def test_parts_come_from_lists_where_there_are_some(tmp_path: Path) -> None:
    for number, stem in enumerate(("case_1a", "case_1b", "case_2", "case_3", "case_4", "case_5")):
        save(tmp_path, stem, seed=0 if stem == "case_5" else number)
    (tmp_path / "train.txt").write_text("case_1a\ncase_2\ncase_3\n")
    lists = {"train": str(tmp_path / "train.txt"), "val": None, "test": ["case_1b", "case_3", "case_5", "gone"]}
    diagnosis = look(tmp_path, lists=lists)
    found = {(f.kind, f.file, f.others) for f in diagnosis.findings}
    assert ("same_image_parts", "case_5.png", ("case_1a.png",)) in found
    assert ("same_image_parts", "case_3.png", ()) in found
    assert ("same_case_parts", "case_1a.png", ("case_1b.png",)) in found
    assert ("lists", "gone", ()) in found
    assert ("unused", "case_4.png", ()) in found
    assert {image.part for image in diagnosis.images} == {"train", "test"}
    assert kinds(look(tmp_path))["same_image"] == 1  # without lists all are one part
    with pytest.raises(SettingError, match=r"lists\.other=\['case_2'\] is not the list of a part"):
        look(tmp_path, lists={"other": ["case_2"]})


def test_entries_have_a_part_and_a_group(tmp_path: Path) -> None:
    for name in ("train/case_1a", "train/sub/case_2b", "test/case_1b"):
        save((tmp_path / name).parent, Path(name).name)
    found = {entry.name: (entry.part, entry.group) for entry in gather(tmp_path, "labelme").entries}
    assert found == {
        "test/case_1b.png": ("test", "case_1"),
        "train/case_1a.png": ("train", "case_1"),
        "train/sub/case_2b.png": ("train", "sub/case_2"),
    }
    whole = gather(tmp_path, "labelme", "(case)").entries
    assert {entry.group for entry in whole} == {"case", "sub/case"}


def test_the_case_of_a_coco_file_is_the_group(tmp_path: Path) -> None:
    save(tmp_path, "a").unlink()
    write_coco(tmp_path, [{"id": 0, "file_name": "a.png", "case": 7}], [])
    (entry,) = gather(tmp_path, "coco").entries
    assert (entry.group, entry.part, entry.annotations) == ("7", "all", ())


def test_a_format_of_another_program_is_examined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "boxes", BoxFormat())
    write_box_file(tmp_path / "train", "a")
    write_box_file(tmp_path / "test", "b").write_text("{")
    gathered = gather(tmp_path, "boxes")
    assert [(entry.name, entry.part, len(entry.annotations)) for entry in gathered.entries] == [
        ("train/a.png", "train", 2)
    ]
    assert ("broken_file", "test") in {(finding.kind, finding.file) for finding in gathered.findings}
    assert [bare.name for bare in gathered.bare] == ["test/b.png"]


def test_wrong_settings_name_themselves(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="format=dota is unknown"):
        gather(tmp_path, "dota")
    with pytest.raises(SettingError, match=r"root=.*none is not a folder"):
        gather(tmp_path / "none", "labelme")
    save(tmp_path, "a")
    with pytest.raises(SettingError, match="group_pattern"):
        gather(tmp_path, "labelme", "(")


def test_images_that_cannot_be_loaded_say_why(tmp_path: Path) -> None:
    save(tmp_path, "gone", seed=1).with_suffix(".png").unlink()
    save(tmp_path, "size", seed=2, imageHeight=99)
    save(tmp_path, "bad", seed=3).with_suffix(".png").write_bytes(b"text")
    entries = {entry.name: entry for entry in gather(tmp_path, "labelme").entries}
    assert entries["gone.png"].load is None
    for name, kind in (("size.png", "size_mismatch"), ("bad.png", "broken_image")):
        load = entries[name].load
        assert load is not None
        with pytest.raises(UserError) as caught:
            load()
        assert load_error(entries[name], caught.value).kind == kind
    missing = load_error(entries["gone.png"], MissingImageError("it is gone"))
    assert (missing.kind, missing.message) == ("missing_image", "it is gone")
    assert load_error(entries["bad.png"], ValueError()).message == "ValueError"
