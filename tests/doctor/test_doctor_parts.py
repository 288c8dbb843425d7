"""What belongs to which part for the doctor: images without annotations, and lists instead of folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kemr_lightning.core.errors import UserError
from tests.doctor.test_doctor import kinds, look, save, write_coco


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
    with pytest.raises(UserError, match=r"data\.lists has 'other'"):
        look(tmp_path, lists={"other": ["case_2"]})
