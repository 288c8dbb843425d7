"""Outlines lie where masks end; pictures and curves are drawn from what a run has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.metrics.records import record
from kemr_lightning.metrics.segmentation import extended_figures
from kemr_lightning.output import figures
from tests.callbacks.helpers import eroding, samples


def area(line: np.ndarray) -> float:
    x, y = line[:, 0], line[:, 1]
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2


def test_an_outline_is_the_masks_edge_in_pixel_coordinates() -> None:
    (line,) = figures.contours(Patch(5, 7, torch.ones((12, 20), dtype=torch.bool)))
    assert np.allclose(line.min(axis=0), (5, 7), atol=0.02)
    assert np.allclose(line.max(axis=0), (25, 19), atol=0.02)
    assert area(line) == pytest.approx(240, rel=0.01)
    assert np.array_equal(line[0], line[-1])


def test_an_outline_of_probabilities_passes_between_pixels() -> None:
    values = torch.tensor([[0.0, 0.25, 0.75, 1.0, 1.0, 0.0]]).repeat(8, 1)
    (line,) = figures.contours(Patch(10, 0, values))
    # 0.5 lies halfway between the centres of columns 11 and 12, and of 14 and 15.
    assert line[:, 0].min() == pytest.approx(12.0)
    assert line[:, 0].max() == pytest.approx(15.0)


def test_no_mask_no_outline() -> None:
    assert figures.contours(Patch(0, 0, torch.zeros(4, 4))) == []


@pytest.mark.parametrize("refine", [True, False])
def test_a_picture_shows_all_three_colours(tmp_path: Path, refine: bool) -> None:
    items, found = samples(1)
    initial = found[1]
    refined = eroding(items[0].image, initial) if refine else None
    figures.mask_picture(items[0], initial, refined, tmp_path / "a.png", score=0.0, details=2)
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    for name, colour in figures.COLOURS.items():
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        near = (abs(picture - rgb).max(axis=2) < 40).sum()
        assert (near > 20) == (name != "refined" or refine), name


def test_a_picture_without_annotations_or_instances(tmp_path: Path) -> None:
    image = torch.zeros((20, 30), dtype=torch.uint8)
    figures.mask_picture(Sample(image, "x.png", 1), Instances.empty((20, 30)), None, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0


def test_curves(tmp_path: Path) -> None:
    items, found = samples(3)
    records = [record(found[s.image_id], s.instances or Instances.empty(s.image_size), s.image_id) for s in items]
    extended = {"initial": extended_figures(records), "refined": extended_figures(records)}
    figures.precision_recall(extended, tmp_path / "pr.png")
    figures.ap_over_iou({"initial": extended["initial"]}, tmp_path / "ap.png")
    assert Image.open(tmp_path / "pr.png").size[0] > 500
    assert Image.open(tmp_path / "ap.png").size[0] > 500


def test_training_curves_need_losses(tmp_path: Path) -> None:
    table = tmp_path / "metrics.csv"
    table.write_text("step,test/MaskAP\n1,50\n")
    assert not figures.training_curves(table, tmp_path / "t.png")
    table.write_text("step,train/loss,val/initial/MaskAP\n0,2,\n5,1.5,\n5,1.4,\n5,,30\n9,1,\n")
    assert figures.training_curves(table, tmp_path / "t.png")
    assert (tmp_path / "t.png").exists()
