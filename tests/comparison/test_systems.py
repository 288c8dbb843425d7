"""Which run gives which row."""

from __future__ import annotations

import pytest

from kemr_lightning.comparison.runs import FinishedRun
from kemr_lightning.comparison.systems import baselines_of, systems_of
from kemr_lightning.core.errors import UserError
from tests.comparison.helpers import made_run, noisy_records

INITIAL, REFINED = noisy_records(0, 2), noisy_records(1, 2)


def mask_rcnn(directory: str = "runs/m", seed: int = 0) -> FinishedRun:
    return made_run(INITIAL, None, "mask_rcnn", directory, seed=seed)


KEMR = made_run(INITIAL, REFINED, "cascade", "runs/k")
PLAIN = made_run(INITIAL, None, "cascade", "runs/c")
BLEND = made_run(INITIAL, None, "blendmask", "runs/b")


def test_rows_are_in_the_order_of_the_paper() -> None:
    rows = systems_of([KEMR, PLAIN, BLEND, mask_rcnn()])
    assert [row.name for row in rows] == ["Mask R-CNN", "BlendMask", "Cascade Mask R-CNN", "KEMR-Net"]
    assert [row.refined for row in rows] == [False, False, False, True]
    assert [row.name for row in baselines_of(rows)] == ["Mask R-CNN", "Cascade Mask R-CNN"]
    assert rows[3].records is REFINED


@pytest.mark.parametrize(
    ("runs", "choice", "borrowed"),
    [
        ([KEMR, BLEND], "auto", 1),
        ([KEMR, BLEND], "never", 0),
        ([KEMR, PLAIN], "auto", 0),
        ([KEMR, PLAIN], "always", 1),
    ],
)
def test_kemr_lends_its_initial_part_to_the_cascade(runs: list[FinishedRun], choice: str, borrowed: int) -> None:
    rows = [row for row in systems_of(runs, choice) if row.borrowed]
    assert len(rows) == borrowed
    for row in rows:
        assert (row.kind, row.refined) == ("cascade", False)
        assert row.name.startswith("Cascade Mask R-CNN")
        assert row.records is INITIAL


def test_one_kemr_run_is_a_comparison() -> None:
    assert [row.name for row in systems_of([KEMR])] == ["Cascade Mask R-CNN", "KEMR-Net"]
    with pytest.raises(UserError, match="nothing to compare"):
        systems_of([KEMR], "never")


def test_rows_of_one_kind_are_distinguished() -> None:
    seeds = [mask_rcnn("runs/one", 1), mask_rcnn("runs/two", 2)]
    assert [row.name for row in systems_of(seeds)] == ["Mask R-CNN (seed 1)", "Mask R-CNN (seed 2)"]
    places = [mask_rcnn("runs/one"), mask_rcnn("runs/two")]
    assert [row.name for row in systems_of(places)] == ["Mask R-CNN (one)", "Mask R-CNN (two)"]
    with pytest.raises(UserError, match="one name"):
        systems_of([mask_rcnn(), mask_rcnn()])


def test_two_refinements_of_one_checkpoint_have_one_cascade() -> None:
    again = made_run(INITIAL, noisy_records(2, 2), "cascade", "runs/k")
    other = made_run(INITIAL, REFINED, "cascade", "runs/other")
    with pytest.raises(UserError, match="one name"):
        systems_of([KEMR, again])
    assert sum(row.borrowed for row in systems_of([KEMR, other])) == 2


def test_other_detectors_that_refine_have_rows_of_their_own() -> None:
    rows = systems_of([made_run(INITIAL, REFINED, "mask_rcnn"), BLEND])
    assert [row.name for row in rows] == ["Mask R-CNN + CRF", "BlendMask"]
    assert baselines_of(rows) == []


def test_a_new_detector_has_rows_of_its_own_name_after_the_known_ones() -> None:
    solo, refined = made_run(INITIAL, None, "solo", "runs/s"), made_run(INITIAL, REFINED, "solo", "runs/r")
    arcs = made_run(INITIAL, None, "arcs", "runs/a")
    rows = systems_of([refined, solo, arcs, KEMR, BLEND])
    assert [(row.kind, row.name) for row in rows] == [
        ("blendmask", "BlendMask"),
        ("cascade", "Cascade Mask R-CNN"),
        ("kemr", "KEMR-Net"),
        ("arcs", "arcs"),
        ("solo", "solo"),
        ("solo_crf", "solo + CRF"),
    ]
    assert rows[-1].records is REFINED
    assert [row.name for row in baselines_of(rows)] == ["Cascade Mask R-CNN"]
