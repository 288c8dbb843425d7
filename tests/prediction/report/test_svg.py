from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from kemr_lightning.core.instances import Patch
from kemr_lightning.prediction.report.svg import svg_path
from tests.metrics.helpers import patch
from tests.prediction.helpers import round_rod


def test_outlines_enclose_the_mask() -> None:
    mask = round_rod(80, 14, 30)
    whole = patch(mask)
    moved = Patch(whole.x0 + 100, whole.y0 + 50, whole.values)
    text = svg_path(moved)
    start, steps = text.removeprefix("M").removesuffix("z").split("l")
    corners = np.cumsum(np.array([start.split(), *np.array(steps.split()).reshape(-1, 2).tolist()], float), axis=0) / 10
    x, y = corners.T
    area = 0.5 * abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
    assert area == pytest.approx(mask.sum(), rel=0.04)
    assert (x.min(), x.max()) == (pytest.approx(moved.window[0], abs=1), pytest.approx(moved.window[2], abs=1))
    assert (y.min(), y.max()) == (pytest.approx(moved.window[1], abs=1), pytest.approx(moved.window[3], abs=1))
    assert svg_path(Patch(0, 0, whole.values & False)) == ""


def drawn(text: str, size: tuple[int, int]) -> np.ndarray:
    """What a path in tenths of a pixel covers, even-odd, by Pillow at eight times the size."""
    canvas = np.zeros((size[0] * 8, size[1] * 8), bool)
    for piece in text.split("z")[:-1]:
        numbers = [int(number) for number in re.findall(r"-?\d+", piece)]
        corners = np.cumsum(np.array(numbers).reshape(-1, 2), axis=0) * 0.8
        one = Image.new("1", (size[1] * 8, size[0] * 8))
        ImageDraw.Draw(one).polygon([(x - 0.5, y - 0.5) for x, y in corners], fill=1)
        canvas ^= np.asarray(one)
    return canvas


def test_holes_and_parts_are_pieces_of_their_own() -> None:
    mask = np.zeros((40, 60), bool)
    mask[4:30, 5:35] = True
    mask[12:22, 14:26] = False  # a hole
    mask[28:38, 45:58] = True  # a second part
    text = svg_path(patch(mask))
    assert text.count("M") == text.count("z") == 3
    # A pixel belongs to what is drawn if most of it is covered.
    covered = drawn(text, mask.shape).reshape(40, 8, 60, 8).mean(axis=(1, 3)) > 0.5
    np.testing.assert_array_equal(covered, mask)


def test_masks_at_the_image_border_are_closed() -> None:
    text = svg_path(Patch(0, 0, torch.ones((10, 12))))
    covered = drawn(text, (10, 12)).reshape(10, 8, 12, 8).mean(axis=(1, 3)) > 0.5
    assert covered.all()
