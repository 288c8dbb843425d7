"""The band maps and a cell's set against known numbers of the human karyotype."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.data.synthetic.karyotype import CHROMOSOME_NAMES, ideogram, karyotype


def test_ideograms_are_the_human_ones() -> None:
    maps = [ideogram(name) for name in CHROMOSOME_NAMES]
    assert sum(len(bands.stains) for bands in maps) == 862
    assert maps[0].length == pytest.approx(249.3, abs=0.1)
    assert sum(bands.length for bands in maps) == pytest.approx(3095.7, abs=2)
    assert maps[0].centromere == pytest.approx(125.0 / 249.25, abs=0.002)
    # The acrocentric chromosomes, and they alone, carry satellites on stalks.
    assert [bands.name for bands in maps if "s" in bands.stains] == ["13", "14", "15", "21", "22"]
    for bands in maps:
        assert len(bands.edges) == len(bands.stains) + 1
        assert set(bands.stains) <= set("nabcdevs")
        assert bands.edges[0] == 0
        assert bands.edges[-1] == 1
        assert np.all(np.diff(bands.edges) > 0)
        centromere = np.nonzero(np.isclose(bands.edges, bands.centromere))[0]
        assert bands.stains[centromere[0] - 1] == "e"
    with pytest.raises(KeyError):
        ideogram("23")


@pytest.mark.parametrize("count", [0, 1, 20, 46, 47])
def test_a_cell_has_the_requested_chromosomes(count: int) -> None:
    names = karyotype(count, np.random.default_rng(3))
    assert len(names) == count
    assert names == sorted(names, key=CHROMOSOME_NAMES.index)
    if count == 46:
        assert all(names.count(str(number)) == 2 for number in range(1, 23))
        assert names.count("X") + names.count("Y") == 2
        assert "X" in names
    if count < 46:
        assert max([names.count(name) for name in names], default=0) <= 2


def test_both_sexes_occur() -> None:
    cells = [karyotype(46, np.random.default_rng(seed)) for seed in range(40)]
    assert 10 < sum("Y" in cell for cell in cells) < 30
