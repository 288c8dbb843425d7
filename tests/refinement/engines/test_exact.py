"""The exact engine against loops over pairs of pixels."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.refinement import (
    CRFParams,
    refine_probability,
)
from kemr_lightning.refinement.engines import exact
from kemr_lightning.refinement.engines.exact import refine_exact
from tests.refinement.engines.helpers import packed, table
from tests.refinement.helpers import by_loops


def test_exact_is_the_two_label_mean_field_written_as_loops():
    rng = np.random.default_rng(3)
    image = rng.integers(80, 140, (5, 6)).astype(np.uint8)
    prob = rng.random((5, 6))
    params = CRFParams(1.7, 15, 1.2, 3, 1.5, 4, temperature=1.6)
    np.testing.assert_allclose(
        refine_probability(image, prob, params, "exact"), by_loops(image, prob, params), atol=1e-6
    )


def test_blocks_that_are_computed_again_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    crops = packed([(15, 9), (8, 11)])
    kept = refine_exact(crops, table(CRFParams(w2=1.0), crops), 3, 0)
    monkeypatch.setattr(exact, "CACHED_PAIRS", 0)
    monkeypatch.setattr(exact, "BLOCK_PAIRS", 2000)
    again = refine_exact(crops, table(CRFParams(w2=1.0), crops), 3, 0)
    assert float((kept - again).abs().max()) < 1e-6
