"""The compiled engine: its choice of grids, and bands of rows."""

from __future__ import annotations

import pytest
import torch

from kemr_lightning.refinement import CRFParams
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines import compiled
from kemr_lightning.refinement.engines.exact import refine_exact
from tests.refinement.engines.helpers import (
    CROPS,
    RANGE,
    packed,
    refine_compiled,
    table,
    texture_of,
)


def test_chromosomes_do_not_pay_for_texture(monkeypatch):
    """Their crops are filtered once, on the grid that the tolerance requires."""

    def never(tolerance: float, roughness: float) -> float:
        raise AssertionError(f"filtered again: roughness {roughness} at tolerance {tolerance}")

    monkeypatch.setattr(compiled, "for_roughness", never)
    for params in RANGE:
        refine_compiled(CROPS, table(params), 5, 0.01)
    image, prob = texture_of(0)
    with pytest.raises(AssertionError, match="filtered again"):
        refine_compiled(Crops.pack([image], [prob]), RANGE[0].to_tensor()[None], 5, 0.01)


def test_bands_of_a_large_crop_change_nothing(monkeypatch):
    """The grid of a crop that fills the image is cut into bands of rows."""
    crops = packed([(90, 40)])
    whole = refine_compiled(crops, table(RANGE[0], crops), 5, 0.01)
    monkeypatch.setattr(compiled, "MOST_CELLS", 1)
    banded = refine_compiled(crops, table(RANGE[0], crops), 5, 0.01)
    assert float((whole - banded).abs().max()) <= 2e-3


def test_crops_that_differ_in_temperature_alone_share_a_group() -> None:
    rows = torch.stack([CRFParams(w1=4, temperature=t).to_tensor() for t in (1.0, 2.0)] + [CRFParams().to_tensor()])
    groups = compiled._groups(rows)
    assert list(groups.values()) == [[0, 1], [2]]
    assert all(kernels.temperature == 1 for kernels in groups)
    crops = packed([(20, 25)] * 3)
    exact = refine_exact(crops, rows, 5, 0)
    assert float((refine_compiled(crops, rows, 5, 0.01) - exact).abs().max()) <= 0.02


def test_what_the_windows_cannot_reach_is_left_to_others() -> None:
    crops = packed([(10, 12), (14, 9)])
    rows = torch.stack([CRFParams(2, 8, 2, 40.0).to_tensor(), CRFParams().to_tensor()])
    _, left = compiled.refine_compiled(crops, rows, 5, 1e-4)
    assert 0 in left
    assert compiled.refine_compiled(crops, rows[[1, 1]], 5, 0.01)[1] == []
