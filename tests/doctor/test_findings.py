"""Kinds of findings."""

from __future__ import annotations

from typing import get_args

from kemr_lightning.data.survey import FaultKind
from kemr_lightning.doctor import KINDS, Finding, SettingNames


def test_every_kind_has_words() -> None:
    for kind in KINDS.values():
        assert kind.severity in ("error", "warning", "note")
        assert kind.title
        assert kind.advice.endswith(".")


def test_texts_name_the_settings_of_the_caller_and_all_formats() -> None:
    named = {name: kind.naming(SettingNames(root="data.root", label_map="classes")) for name, kind in KINDS.items()}
    assert (
        named["nothing"].advice
        == "Correct data.root or format (labelme, coco, voc, yolo, cvat, label_studio), or annotate some images."
    )
    assert named["label_unmapped"].title == "label missing in classes"
    assert named["label_merged"].advice.endswith("drop them: classes={good: chromosome, bad: null}.")
    assert named["count"] == KINDS["count"]


def test_every_fault_of_a_format_is_a_kind_of_finding() -> None:
    assert set(get_args(FaultKind)) <= set(KINDS)


def test_a_finding_is_as_severe_as_its_kind() -> None:
    assert [Finding(kind, "", "").severity for kind in ("broken_file", "nested", "no_test")] == [
        "error",
        "warning",
        "note",
    ]
