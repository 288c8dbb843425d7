"""Outlines lie where masks end; pictures are drawn from what a run has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kemr_lightning.core.contracts import Prediction
from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.output.drawing import COLOURS
from kemr_lightning.output.mask_figures import contours, mask_picture
from tests.callbacks.helpers import eroding, samples


def area(line: np.ndarray) -> float:
    x, y = line[:, 0], line[:, 1]
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2


def test_an_outline_is_the_masks_edge_in_pixel_coordinates() -> None:
    (line,) = contours(Patch(5, 7, torch.ones((12, 20), dtype=torch.bool)))
    assert np.allclose(line.min(axis=0), (5, 7), atol=0.02)
    assert np.allclose(line.max(axis=0), (25, 19), atol=0.02)
    assert area(line) == pytest.approx(240, rel=0.01)
    assert np.array_equal(line[0], line[-1])


def test_an_outline_of_probabilities_passes_between_pixels() -> None:
    values = torch.tensor([[0.0, 0.25, 0.75, 1.0, 1.0, 0.0]]).repeat(8, 1)
    (line,) = contours(Patch(10, 0, values))
    # 0.5 lies halfway between the centres of columns 11 and 12, and of 14 and 15.
    assert line[:, 0].min() == pytest.approx(12.0)
    assert line[:, 0].max() == pytest.approx(15.0)


def test_no_mask_no_outline() -> None:
    assert contours(Patch(0, 0, torch.zeros(4, 4))) == []


@pytest.mark.parametrize("refine", [True, False])
def test_a_picture_shows_all_three_colours(tmp_path: Path, refine: bool) -> None:
    items, found = samples(1)
    initial = found[1]
    refined = eroding(items[0].image, initial) if refine else None
    mask_picture(items[0], Prediction(initial, refined), tmp_path / "a.png", score=0.0, details=2)
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    for name, colour in COLOURS.items():
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        near = (abs(picture - rgb).max(axis=2) < 40).sum()
        assert (near > 20) == (name != "refined" or refine), name


def test_a_picture_without_annotations_or_instances(tmp_path: Path) -> None:
    image = torch.zeros((20, 30), dtype=torch.uint8)
    mask_picture(Sample(image, "x.png", 1), Prediction(Instances.empty((20, 30)), None), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 0
