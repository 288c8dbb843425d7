"""Pictures show every case with its outlines, or are not drawn at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kemr_lightning.comparison.cases import Choice, cases_of, choose_masks
from kemr_lightning.comparison.side_by_side import draw_side_by_side
from kemr_lightning.output.drawing import INITIAL, REFINED, TRUTH
from tests.comparison.helpers import noisy_records, system

FIRST, SECOND = system("Mask R-CNN", noisy_records(0)), system("KEMR-Net", noisy_records(1, quality=0.8), "kemr")
TITLES = ("everything", "better", "worse")


def grey(name: str) -> torch.Tensor:
    return torch.full((48, 64), 90, dtype=torch.uint8)


def near(picture: np.ndarray, colour: str) -> int:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((abs(picture.astype(int) - rgb).max(axis=2) < 40).sum())


def test_outlines_of_all_three(tmp_path: Path) -> None:
    jittered = [
        item if item.image_id % 2 else moved for item, moved in zip(SECOND.records, noisy_records(5), strict=True)
    ]
    other = system("KEMR-Net", jittered, "kemr")
    cases = cases_of(FIRST, other, score=0.0)
    choice = Choice(cases[:3], cases[3:5], 3, 2, len(cases))
    path = tmp_path / "pair.png"
    assert draw_side_by_side(choice, FIRST, other, grey, path, TITLES, score=0.0)
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[1] > picture.shape[0]
    for colour in (TRUTH, INITIAL, REFINED):
        assert near(picture, colour) > 50


def test_no_case_no_picture(tmp_path: Path) -> None:
    cases = cases_of(FIRST, FIRST)
    choice = choose_masks(cases, FIRST.records, 3)
    assert not choice.wins
    assert not draw_side_by_side(choice, FIRST, FIRST, grey, tmp_path / "none.png", TITLES)
    assert not (tmp_path / "none.png").exists()
