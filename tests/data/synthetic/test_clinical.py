"""Clinical scenes: everything in one image, and its annotation."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from kemr_lightning.data.annotation import rasterise
from kemr_lightning.data.synthetic.clinical import clinical
from kemr_lightning.data.synthetic.dataset import SyntheticDataset
from kemr_lightning.data.synthetic.settings import CLINICAL_LOOKS, Metaphase, MetaphaseSettings
from tests.data.synthetic.helpers import digest, full

CELL = MetaphaseSettings((400, 360), width=7.0, scene="clinical")
FEW = MetaphaseSettings((160, 128), count=6, width=8.0, scene="clinical")


def made(settings: MetaphaseSettings, seed: int) -> Metaphase:
    return clinical(settings, np.random.default_rng(seed))


@pytest.mark.parametrize("look", CLINICAL_LOOKS)
def test_chromosomes_stand_out_from_the_ground(look: str) -> None:
    bright = 0
    for seed in range(8):
        scene = made(replace(FEW, look=look), seed)
        inside = sum(full(where, scene.image_size) for where in scene.footprints) >= 0.5
        difference = float(np.median(scene.image[inside])) - float(np.median(scene.image[~inside]))
        assert abs(difference) > 8
        bright += difference > 0
    # A few images are saved with dark and bright exchanged.
    assert (bright <= 2) if look == "gband" else (bright >= 6)


def test_masks_are_those_of_the_outlines() -> None:
    scene = made(CELL, 3)
    assert scene.image.shape == scene.image_size == (360, 400)
    assert scene.image.dtype == np.uint8
    assert len(scene.names) == len(scene.shapes) == len(scene.footprints) > 30
    for shape, where in zip(scene.shapes, scene.footprints, strict=True):
        mask = full(where, scene.image_size) >= 0.5
        drawn = rasterise([shape.outline()], scene.image_size)
        assert drawn is not None
        polygon = np.zeros(scene.image_size, bool)
        rows, columns = drawn.values.shape
        polygon[drawn.y0 : drawn.y0 + rows, drawn.x0 : drawn.x0 + columns] = drawn.values.numpy()
        assert (mask & polygon).sum() / (mask | polygon).sum() > 0.9


def test_crossing_chromosomes_share_pixels() -> None:
    count = sum(full(where, (360, 400)) >= 0.5 for where in made(replace(CELL, overlap=1.0), 1).footprints)
    apart = sum(full(where, (360, 400)) >= 0.5 for where in made(replace(CELL, overlap=0.0), 1).footprints)
    assert (count > 1).sum() > 5 * (apart > 1).sum()
    assert (count > 1).sum() > 50


def test_cells_have_46_chromosomes_with_exceptions() -> None:
    counts = Counter(len(made(replace(CELL, width=4.0), seed).names) for seed in range(12))
    assert counts.most_common(1)[0][0] == 46
    assert len(counts) > 1
    for seed in range(4):
        assert len(made(replace(FEW, count=(3, 5)), seed).names) <= 5
    assert made(replace(FEW, count=0), 0).names == []


def test_small_images_have_as_many_chromosomes_as_fit() -> None:
    scene = made(MetaphaseSettings((320, 256), scene="clinical"), 2)
    assert 8 <= len(scene.names) <= 17
    assert scene.image.shape == (256, 320)


def test_sizes_and_widths_are_drawn_or_given() -> None:
    scenes = [made(MetaphaseSettings(None, width=(4, 16), scene="clinical"), seed) for seed in range(8)]
    widths = [scene.width for scene in scenes]
    assert min(widths) > 3.7
    assert max(widths) < 16.9
    assert max(widths) > 1.5 * min(widths)
    assert len({scene.image_size for scene in scenes}) == 8
    # Half-widths follow, with what one chromosome differs from the next.
    for scene in scenes:
        mean = np.mean([2 * shape.half_width.mean() for shape in scene.shapes])
        assert mean == pytest.approx(scene.width, rel=0.15)


def test_images_without_a_size_have_600_to_3200_pixels() -> None:
    longer = [max(made(MetaphaseSettings(None, scene="clinical"), seed).image_size) for seed in range(4)]
    assert all(599 <= side <= 3200 for side in longer)
    assert len(set(longer)) > 2


def test_an_image_depends_on_seed_and_index_alone() -> None:
    data = SyntheticDataset(9, FEW, seed=4)
    forwards = [data[index] for index in (2, 5)]
    backwards = [SyntheticDataset(9, FEW, seed=4)[index] for index in (5, 2)][::-1]
    assert digest(forwards) == digest(backwards)
    others = [SyntheticDataset(9, FEW, seed=5)[2], SyntheticDataset(9, FEW, seed=4, split="val")[2]]
    digests = [digest([sample]) for sample in (forwards[0], *others)]
    assert all(one != two for one, two in pairwise(digests))


def test_what_is_no_chromosome_has_no_instance() -> None:
    stained = []
    for seed in range(12):
        scene = made(replace(CELL, look="gband", count=3), seed)
        inside = sum(full(where, scene.image_size) for where in scene.footprints) > 0
        ground = np.median(scene.image[~inside])
        dark = np.abs(scene.image.astype(float) - ground) > 60
        stained.append((dark & ~inside).sum())
        assert len(scene.names) <= 3
    # Nuclei and dirt are there, but are not annotated.
    assert max(stained) > 400
