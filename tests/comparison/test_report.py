"""Pictures of cases for every baseline, and what a W&B run is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kemr_lightning.comparison.report import JSON, draw_cases, log_to_wandb, pairs_to_show, write_report
from kemr_lightning.comparison.systems import baselines_of
from kemr_lightning.output.wandb_run import RunLogger, finish_run
from tests.comparison.helpers import SIZE, one_image, system
from tests.comparison.test_cases import TRUTH, cut
from tests.comparison.test_table import compared
from tests.helpers import read_run

# Annotations less some columns each, so that each system is better at one than another and finds one that it does not.
MASK_RCNN = system("Mask R-CNN", [one_image(TRUTH, [cut(0, 2), cut(1, 4), cut(3, 6)], [0.9] * 3)])  # type: ignore[list-item]
BLENDMASK = system("BlendMask", [one_image(TRUTH, [cut(0, 1)], [0.9])], "blendmask")  # type: ignore[list-item]
CASCADE = system("Cascade Mask R-CNN", [one_image(TRUTH, [cut(0, 6), cut(1, 1), cut(3, 9)], [0.9] * 3)], "cascade")  # type: ignore[list-item]
KEMR = system("KEMR-Net", [one_image(TRUTH, [cut(0, 1), cut(3, 8), cut(2, 2)], [0.9] * 3)], "kemr")  # type: ignore[list-item]


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
        return {name: torch.full(SIZE, 90, dtype=torch.uint8) for name in wanted}

    rows = [MASK_RCNN, CASCADE, KEMR]
    drawn = draw_cases(pairs_to_show(rows, baselines_of(rows)), compared(), images, 2, tmp_path)
    names = [f"kemr_vs_{base}_{about}.png" for base in ("mask_rcnn", "cascade") for about in ("masks", "found")]
    assert [path.name for path in drawn] == names
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in drawn]
    assert all(picture.std() > 10 for picture in pictures)
    # Each pair has its own cases: a win and a loss in one row, but two wins, in two rows, against the cascade.
    assert pictures[2].shape[0] > pictures[0].shape[0]
    assert pictures[1].shape == pictures[3].shape == pictures[0].shape
    assert asked == [{"a.png"}] * 4


def test_no_picture_where_an_image_is_gone(tmp_path: Path) -> None:
    rows = [MASK_RCNN, KEMR]
    assert not draw_cases(pairs_to_show(rows, baselines_of(rows)), compared(), lambda wanted: {}, 2, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_wandb_run_has_the_table_the_pictures_and_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    write_report(compared(), tmp_path)
    logger = RunLogger(project="test", save_dir=tmp_path)
    log_to_wandb(logger.experiment, tmp_path)
    finish_run({})
    run = read_run(tmp_path)
    assert run.values("compare/table/_type") == ["table-file"]
    (path,) = run.values("compare/table/path")
    (media,) = (tmp_path / "wandb").glob(f"offline-run-*/files/{path}")
    content = json.loads(media.read_text())
    place = {name: position for position, name in enumerate(content["columns"])}
    assert [row[place["system"]] for row in content["data"]] == ["Mask R-CNN", "Cascade Mask R-CNN", "KEMR-Net"]
    systems = json.loads((tmp_path / JSON).read_text())["systems"]
    for row, expected in zip(content["data"], systems, strict=True):
        assert float(row[place["MaskAP"]]) == expected["figures"]["MaskAP"]
        for name, value in expected["figures"].items():
            assert run.summary[f"compare/{expected['name']}/{name}"] == pytest.approx(value)
    for stem in ("precision_recall", "ap_over_iou"):
        assert run.values(f"compare/{stem}/_type") == ["image-file"]
