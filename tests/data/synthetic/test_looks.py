"""What differs between the looks of clinical images."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.data.synthetic.karyotype import ideogram
from kemr_lightning.data.synthetic.looks import Preparation, draw_camera, draw_crowding
from kemr_lightning.data.synthetic.settings import CLINICAL_LOOKS


@pytest.mark.parametrize("look", CLINICAL_LOOKS)
def test_stain_follows_the_bands(look: str) -> None:
    rng = np.random.default_rng(0)
    bands = ideogram("4")
    preparation = Preparation(look, 0.2, 10.0, contrast=1.0, smear=0.05, groove=0.3, taper=0.2, uneven=0.0)
    profiles = np.mean([preparation.stain(bands, 150.0, 15.0, rng).profile for _ in range(20)], axis=(0, 1))
    middles = (bands.edges[1:] + bands.edges[:-1]) / 2
    at = np.interp(middles, (np.arange(len(profiles)) + 0.5) / len(profiles), profiles)
    wide = np.diff(bands.edges) > 0.02
    stained = [at[index] for index in np.nonzero(wide)[0] if bands.stains[index] == "d"]
    pale = [at[index] for index in np.nonzero(wide)[0] if bands.stains[index] == "n"]
    assert min(stained) > max(pale)


def test_sister_chromatids_part_away_from_the_centromere() -> None:
    preparation = Preparation("qband", 0.5, 8.0, contrast=1.0, smear=0.1, groove=0.5, taper=0.2, uneven=0.0)
    bands = ideogram("1")
    groove = preparation.stain(bands, 120.0, 15.0, np.random.default_rng(1)).groove
    assert np.argmin(groove) / len(groove) == pytest.approx(bands.centromere, abs=0.01)
    assert 0.2 < groove.max() < 0.75


@pytest.mark.parametrize("look", CLINICAL_LOOKS)
def test_drawn_preparations_are_plausible(look: str) -> None:
    rng = np.random.default_rng(2)
    drawn = [Preparation.draw(look, rng) for _ in range(200)]
    aspects = np.array([preparation.aspect for preparation in drawn])
    condensed = np.array([preparation.condensed for preparation in drawn])
    assert np.corrcoef(aspects, condensed)[0, 1] < -0.8
    assert 4.5 <= aspects.min() < aspects.max() <= 17
    for preparation in drawn:
        form = preparation.form(14.0, rng)
        # The longest chromosome has 249 Mb.
        assert form.pixels_per_megabase * 249 / 14 == pytest.approx(preparation.aspect)
        assert 0 <= form.notch <= 1
        assert 0 < form.constriction < 0.5


@pytest.mark.parametrize("look", CLINICAL_LOOKS)
def test_cameras_have_the_polarity_of_their_look(look: str) -> None:
    rng = np.random.default_rng(3)
    for width in (8.0, 22.0, 60.0):
        cameras = [draw_camera(look, width, rng) for _ in range(50)]
        assert {camera.absorbs for camera in cameras} == {look == "gband"}
        assert all((camera.background > 150) == camera.absorbs for camera in cameras)
        assert all(0.5 <= camera.blur < 0.6 * width for camera in cameras)
        assert {camera.quality is None for camera in cameras} == {False, True}


def test_overlap_sets_how_many_lie_close() -> None:
    rng = np.random.default_rng(4)
    for overlap in (0.0, 0.4, 1.0):
        crowding = draw_crowding("dapi", overlap, rng)
        assert crowding.crossing + crowding.touching + crowding.alongside == pytest.approx(overlap)
    drawn = [draw_crowding("gband", None, rng) for _ in range(100)]
    assert {crowding.hollow > 0 for crowding in drawn} == {False, True}
