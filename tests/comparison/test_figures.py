"""Every row has a colour of its own, the same in every comparison."""

from __future__ import annotations

from kemr_lightning.comparison.figures import COLOURS, colours_of
from tests.comparison.helpers import noisy_records, system

RECORDS = noisy_records(0, 2)


def test_colours_go_by_kind() -> None:
    rows = [system("A", RECORDS, "cascade"), system("B", RECORDS, "kemr"), system("C", RECORDS, "kemr")]
    found = colours_of(rows)
    assert (found["A"], found["B"]) == (COLOURS["cascade"], COLOURS["kemr"])
    assert len(set(found.values())) == 3
