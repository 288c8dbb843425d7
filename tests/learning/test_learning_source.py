from __future__ import annotations

import logging

import pytest

from kemr_lightning.learning.learning_source import ALIKE, choose_source, initial_figures
from tests.learning.helpers import by_heart, rods


def test_figures_of_initial_masks_by_hand() -> None:
    loose, exact = rods(0, 3), by_heart(rods(0, 3))
    # Each loose mask holds all 140 pixels of its rod: its IoU is 140 over its own area.
    ious = [140 / patch.area() for patch in loose.initial.patches or []]
    assert max(ious) < 0.95
    assert initial_figures([loose]) == {"images": 1, "iou_before": pytest.approx(sum(ious) / 3)}
    assert initial_figures([exact]) == {"images": 1, "iou_before": 1.0}
    assert initial_figures([loose, exact]) == {"images": 2, "iou_before": pytest.approx((sum(ious) + 3) / 6)}
    assert initial_figures([]) == {"images": 0, "iou_before": 0.0}


@pytest.mark.parametrize(("overfitted", "name", "images"), [(False, "all", 4), (True, "val", 2)])
def test_auto_takes_training_images_only_if_their_masks_are_no_better(
    overfitted: bool, name: str, images: int, caplog: pytest.LogCaptureFixture
) -> None:
    held_out = [rods(seed, 2) for seed in range(2)]
    train = [by_heart(case) for case in held_out] if overfitted else held_out
    with caplog.at_level(logging.INFO):
        source = choose_source("auto", {"val": held_out, "train": train})
    assert (source.name, len(source.cases)) == (name, images)
    # Figures of both parts are kept, also of one that is left out.
    ahead = source.figures["train"]["iou_before"] - source.figures["val"]["iou_before"]
    assert (ahead > ALIKE) == overfitted
    assert f"{source.figures['val']['iou_before']:.4f}" in caplog.text
    assert ("by heart" in caplog.text) == overfitted
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("wanted", "parts", "warned"), [("val", "v", False), ("train", "t", True), ("all", "vt", True)]
)
def test_what_is_asked_for_is_taken_and_training_images_bring_a_warning(
    wanted: str, parts: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    known = {"v": ("val", [rods(0, 1)]), "t": ("train", [by_heart(rods(1, 1)), by_heart(rods(2, 1))])}
    given = dict(known[letter] for letter in parts)
    source = choose_source(wanted, given)
    assert source.name == wanted
    assert [case for part in given.values() for case in part] == source.cases
    assert source.figures.keys() == given.keys()
    assert ("used to train the model" in caplog.text) == warned
