"""Kinds of findings."""

from __future__ import annotations

from typing import get_args

from kemr_lightning.data.survey import FaultKind
from kemr_lightning.doctor import KINDS, Finding


def test_every_kind_has_words() -> None:
    for kind in KINDS.values():
        assert kind.severity in ("error", "warning", "note")
        assert kind.title
        assert kind.advice.endswith(".")


def test_every_fault_of_a_format_is_a_kind_of_finding() -> None:
    assert set(get_args(FaultKind)) <= set(KINDS)


def test_a_finding_is_as_severe_as_its_kind() -> None:
    assert [Finding(kind, "", "").severity for kind in ("broken_file", "nested", "no_test")] == [
        "error",
        "warning",
        "note",
    ]
