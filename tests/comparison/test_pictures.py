"""Every row has a colour of its own; every case is shown with its outlines, for every baseline, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kemr_lightning.comparison.cases import Choice, cases_of, choose_masks
from kemr_lightning.comparison.pictures import (
    COLOURS,
    Sheet,
    colours_of,
    draw_cases,
    draw_curves,
    draw_side_by_side,
    pairs_to_show,
)
from kemr_lightning.comparison.settings import CompareSettings
from kemr_lightning.comparison.systems import baselines_of
from kemr_lightning.core.run_directory import AP_OVER_IOU, PRECISION_RECALL
from kemr_lightning.output.drawing import INITIAL, REFINED, TRUTH
from tests.comparison.helpers import SIZE, noisy_records, one_image, system
from tests.comparison.test_cases import TRUTH as MASKS
from tests.comparison.test_cases import cut

FIRST, SECOND = system("Mask R-CNN", noisy_records(0)), system("KEMR-Net", noisy_records(1, quality=0.8), "kemr")

# Annotations without some columns, so that each system is better at one than another and finds one that it does not.
MASK_RCNN = system("Mask R-CNN", [one_image(MASKS, [cut(0, 2), cut(1, 4), cut(3, 6)], [0.9] * 3)])
BLENDMASK = system("BlendMask", [one_image(MASKS, [cut(0, 1)], [0.9])], "blendmask")
CASCADE = system("Cascade Mask R-CNN", [one_image(MASKS, [cut(0, 6), cut(1, 1), cut(3, 9)], [0.9] * 3)], "cascade")
KEMR = system("KEMR-Net", [one_image(MASKS, [cut(0, 1), cut(3, 8), cut(2, 2)], [0.9] * 3)], "kemr")


def grey(names: set[str]) -> Mapping[str, Tensor]:
    return {name: torch.full(SIZE, 90, dtype=torch.uint8) for name in names}


def near(picture: np.ndarray, colour: str) -> int:
    """Number of pixels of about a colour."""
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((abs(picture.astype(int) - rgb).max(axis=2) < 40).sum())


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def test_colours_go_by_kind() -> None:
    records = FIRST.records
    kinds = ["cascade", "kemr", "kemr", "solo", "solo_crf", "arcs"]
    found = colours_of([system(f"{number}", records, kind) for number, kind in enumerate(kinds)])
    assert (found["0"], found["1"]) == (COLOURS["cascade"], COLOURS["kemr"])
    assert len(set(found.values())) == len(kinds)
    assert not set(list(found.values())[2:]) & set(COLOURS.values())


def test_curves_of_all_systems(tmp_path: Path) -> None:
    rows = [FIRST, system("solo", SECOND.records, "solo")]
    assert draw_curves(rows, tmp_path) == [tmp_path / PRECISION_RECALL, tmp_path / AP_OVER_IOU]
    for path in tmp_path.iterdir():
        assert all(near(read(path), colour) > 50 for colour in colours_of(rows).values())


def test_outlines_of_all_three(tmp_path: Path) -> None:
    jittered = [
        item if item.image_id % 2 else moved for item, moved in zip(SECOND.records, noisy_records(5), strict=True)
    ]
    other = system("KEMR-Net", jittered, "kemr")
    cases = cases_of(FIRST, other, score=0.0)
    sheet = Sheet(Choice(cases[:3], cases[3:5], 3, 2, len(cases)), "everything", "better", "worse")
    path = tmp_path / "pair.png"
    images = grey({item.name for item in FIRST.records})
    assert draw_side_by_side(sheet, FIRST, other, images, path, score=0.0)
    picture = read(path)
    assert picture.shape[1] > picture.shape[0]
    for colour in (TRUTH, INITIAL, REFINED):
        assert near(picture, colour) > 50


def test_no_case_no_picture(tmp_path: Path) -> None:
    choice = choose_masks(cases_of(FIRST, FIRST), FIRST.records, 3)
    assert not choice.wins
    assert not draw_side_by_side(Sheet(choice, "", "", ""), FIRST, FIRST, {}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_kemr_is_shown_beside_both_baselines() -> None:
    rows = [MASK_RCNN, BLENDMASK, CASCADE, KEMR]
    assert pairs_to_show(rows, baselines_of(rows)) == [(MASK_RCNN, KEMR), (CASCADE, KEMR)]
    # Without a KEMR-Net it is the last row, and never beside itself; without a baseline, the first and the last.
    rows = [MASK_RCNN, BLENDMASK, CASCADE]
    assert pairs_to_show(rows, baselines_of(rows)) == [(MASK_RCNN, CASCADE)]
    assert pairs_to_show([BLENDMASK, KEMR], []) == [(BLENDMASK, KEMR)]


def test_two_pictures_of_every_pair(tmp_path: Path) -> None:
    asked: list[set[str]] = []

    def images(wanted: set[str]) -> Mapping[str, Tensor]:
        asked.append(wanted)
        return grey(wanted)

    rows = [MASK_RCNN, CASCADE, KEMR]
    drawn = draw_cases(pairs_to_show(rows, baselines_of(rows)), CompareSettings(crops=2), images, tmp_path)
    names = [f"kemr_vs_{base}_{about}.png" for base in ("mask_rcnn", "cascade") for about in ("masks", "found")]
    assert [path.name for path in drawn] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    pictures = [read(path) for path in drawn]
    assert all(picture.std() > 10 for picture in pictures)
    # Each pair has its own cases: a win and a loss in one row, but two wins, in two rows, against the cascade.
    assert pictures[2].shape[0] > pictures[0].shape[0]
    assert pictures[1].shape == pictures[3].shape == pictures[0].shape
    assert asked == [{"a.png"}] * 4


def test_any_kind_makes_a_file_name(tmp_path: Path) -> None:
    other = system("SOLO/v2 mask", KEMR.records, "SOLO/v2 mask")
    drawn = draw_cases([(MASK_RCNN, other)], CompareSettings(), grey, tmp_path)
    assert [path.name for path in drawn] == [f"SOLO_v2_mask_vs_mask_rcnn_{about}.png" for about in ("masks", "found")]


def test_no_picture_where_an_image_is_gone(tmp_path: Path) -> None:
    assert not draw_cases([(MASK_RCNN, KEMR)], CompareSettings(), lambda wanted: {}, tmp_path)
    assert not list(tmp_path.iterdir())
