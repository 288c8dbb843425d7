"""Pixels against annotations, and thumbnails of copies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from kemr_lightning.doctor.pixel_findings import contrast, digest, place_findings, thumbnail, unlabelled
from tests.doctor.helpers import SIZE, field


def test_different_images_have_different_thumbnails() -> None:
    thumbs = np.stack([thumbnail(field(seed=seed)[0]).ravel() for seed in range(20)])
    assert np.abs(np.triu(thumbs @ thumbs.T, 1)).max() < 0.9
    assert not thumbnail(np.full(SIZE, 7, np.uint8)).any()


def mask_of(outlines: list[list[list[float]]]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(SIZE, dtype=bool)
    for (x0, y0), _, (x1, y1), _ in outlines:
        mask[int(y0) : int(y1), int(x0) : int(x1)] = True
    return mask


def test_a_digest_is_of_pixels_and_shape() -> None:
    pixels = field()[0]
    assert digest(pixels) == digest(pixels.copy())
    assert digest(pixels) == digest(np.asfortranarray(pixels))
    assert len({digest(pixels), digest(255 - pixels), digest(pixels.reshape(SIZE[::-1]))}) == 3


@pytest.mark.parametrize("change", ["brighter", "shaded", "larger"])
def test_a_thumbnail_survives_a_change_of_light_and_size(change: str) -> None:
    pixels = field()[0]
    changed = {
        "brighter": lambda: (pixels * 0.5 + 60).astype(np.uint8),
        "shaded": lambda: (pixels + np.linspace(0, 60, SIZE[1])[None]).clip(0, 255).astype(np.uint8),
        "larger": lambda: np.asarray(Image.fromarray(pixels).resize((480, 320))),
    }[change]()
    assert float((thumbnail(pixels) * thumbnail(changed)).sum()) > 0.98


def test_contrast_by_hand() -> None:
    pixels = np.array([[0, 0, 0, 8]], dtype=np.uint8)
    mask = np.array([[False, False, False, True]])
    assert contrast(pixels, mask) == pytest.approx(8 / pixels.std())
    assert contrast(pixels, ~mask) == pytest.approx(-8 / pixels.std())
    assert contrast(pixels, np.zeros_like(mask)) == contrast(pixels, np.ones_like(mask)) == 0
    assert contrast(np.zeros((1, 4), np.uint8), mask) == 0


@pytest.mark.parametrize("bright", [True, False])
def test_annotations_in_their_place_mirrored_and_beside(bright: bool) -> None:
    pixels, outlines = field(count=4, seed=1, bright=bright)
    mask = mask_of(outlines)
    assert place_findings("a.png", pixels, mask) == []
    assert place_findings("a.png", pixels, np.zeros_like(mask)) == []
    (mirrored,) = place_findings("a.png", pixels, mask[:, ::-1])
    assert (mirrored.kind, mirrored.message[:23]) == ("turned", "mirrored left to right ")
    (beside,) = place_findings("a.png", pixels, np.roll(mask, 19, axis=1))
    assert beside.kind == "off_target"


def test_unlabelled_rods_and_nothing_else() -> None:
    pixels, outlines = field(count=6, seed=2)
    found = unlabelled(pixels, mask_of(outlines[1:]), 300, 10)
    assert len(found) == 1
    (box, area) = found[0]
    assert np.abs(np.array(box) - [*outlines[0][0], *outlines[0][2]]).max() <= 2
    assert area == pytest.approx(300, rel=0.2)
    assert unlabelled(pixels, mask_of(outlines), 300, 10) == []
    # Of other sizes, they are no chromosomes.
    assert unlabelled(pixels, mask_of(outlines[1:]), 1200, 20) == []
    # Without a contrast to learn from, there is nothing to compare with.
    assert unlabelled(np.full(SIZE, 90, np.uint8), mask_of(outlines), 300, 10) == []
