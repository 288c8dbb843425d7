"""Faults of many files in one message."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.faults import raise_faults, refuse_twins, warn_of_skipped
from kemr_lightning.data.image import IntensityImage
from kemr_lightning.data.record import Record


def test_the_first_faults_are_named_and_the_others_counted() -> None:
    raise_faults([], Path("d"))
    with pytest.raises(UserError, match=r"^one \| two \| three$"):
        raise_faults(["one", "two", "three"], Path("d"))
    with pytest.raises(UserError, match=r"^1 \| 2 \| 3 \(2 more faults in d\)$"):
        raise_faults(list("12345"), Path("d"), "faults")


def test_an_image_that_occurs_twice_is_refused() -> None:
    def load() -> IntensityImage:
        raise NotImplementedError

    records = [Record(name, Path(name), load) for name in ("a", "b", "b")]
    refuse_twins(records[:2], "there twice")
    with pytest.raises(UserError, match=r"^b is there twice$"):
        refuse_twins(records, "there twice")


def test_skipped_shapes_are_counted_by_kind(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_skipped(Path("d"), "shapes", {})
    assert caplog.text == ""
    warn_of_skipped(Path("d"), "shapes", {"point": 2, "line": 1})
    assert "d: shapes that are not instances, left out: 1 line, 2 point" in caplog.text
