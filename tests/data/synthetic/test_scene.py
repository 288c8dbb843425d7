"""The content of single metaphases."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.data.synthetic.scene import metaphase
from kemr_lightning.data.synthetic.settings import Metaphase, MetaphaseSettings
from tests.data.synthetic.helpers import full


def contrast_of(scene: Metaphase) -> float:
    """Grey levels of the chromosomes above those of the background; negative in G-bands."""
    inside = sum(full(where, scene.image.shape) for where in scene.footprints) >= 0.5
    return float(np.median(scene.image[inside]) - np.median(scene.image[~inside]))


@pytest.mark.parametrize("look", ["gband", "fluorescence"])
def test_look_and_contrast(look: str) -> None:
    for seed in range(3):
        scene = metaphase(MetaphaseSettings((160, 128), count=6, look=look), np.random.default_rng(seed))
        difference = contrast_of(scene)
        assert (difference < -25) if look == "gband" else (difference > 25)


def test_mixed_gives_both_looks_and_counts_fill_their_range() -> None:
    settings = MetaphaseSettings((128, 96), count=(1, 3))
    scenes = [metaphase(settings, np.random.default_rng(seed)) for seed in range(24)]
    assert {contrast_of(scene) > 0 for scene in scenes} == {False, True}
    assert {len(scene.names) for scene in scenes} == {1, 2, 3}


def test_everything_in_a_metaphase_fits_together() -> None:
    scene = metaphase(MetaphaseSettings((320, 256), width=10.0), np.random.default_rng(1))
    assert scene.image.shape == (256, 320)
    assert scene.image.dtype == np.uint8
    assert len(scene.names) == len(scene.shapes) == len(scene.footprints) > 5
    assert scene.width == pytest.approx(10, rel=0.15)
    for shape, where in zip(scene.shapes, scene.footprints, strict=True):
        rows, columns = where.coverage.shape
        assert 0 <= where.x0 <= 320 - columns
        assert 0 <= where.y0 <= 256 - rows
        # At least a quarter of its area is in the image.
        assert where.coverage.sum() >= 0.25 * 2 * shape.half_width.mean() * shape.length


def test_overlap_decides_how_much_lies_across_others() -> None:
    def shared(overlap: float) -> int:
        settings = MetaphaseSettings((320, 256), overlap=overlap, look="gband")
        scenes = (metaphase(settings, np.random.default_rng(seed)) for seed in range(3))
        return sum(int((sum(full(w, (256, 320)) >= 0.5 for w in scene.footprints) > 1).sum()) for scene in scenes)

    assert shared(0.0) < 20
    assert shared(1.0) > 150


def test_the_same_generator_gives_the_same_metaphase() -> None:
    settings = MetaphaseSettings((128, 96), count=3)
    first, second, third = (metaphase(settings, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.image, second.image)
    assert first.names == second.names
    assert not np.array_equal(first.image, third.image)
