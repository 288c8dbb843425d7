"""pydensecrf against the exact engine."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from kemr_lightning.core.errors import UserError
from kemr_lightning.refinement import (
    CRFParams,
    refine_crops,
    refine_probability,
)
from kemr_lightning.refinement.engines.pydensecrf_library import refine_one
from tests.refinement.engines.helpers import (
    CROPS,
    RANGE,
    by_brute_force,
    crop_of,
    mean_iou,
)


def test_the_update_is_pydensecrfs():
    """Where its lattice is exact: a kernel that joins all pixels alike, and one that joins none."""
    pytest.importorskip("pydensecrf")
    image, prob = crop_of(12, 10, 1)
    for params in (
        CRFParams(1e5, 1e6, 1e5, 2, 1, 3),
        CRFParams(1e-3, 1e-3, 1e-3, 2, 1, 3),
        CRFParams(1e5, 1e6, 1e-3, 1, 2, 4, temperature=1.7),
    ):
        wanted = refine_probability(image, prob, params, "exact")
        assert float((refine_probability(image, prob, params, "pydensecrf") - wanted).abs().max()) < 2e-4


def test_pydensecrf_is_near_the_oracle_elsewhere():
    pytest.importorskip("pydensecrf")
    images, probs = CROPS.unpack(CROPS.intensity), CROPS.unpack(CROPS.prob)
    refined = torch.cat([q.reshape(-1) for q in refine_crops(images, probs, RANGE[0], "pydensecrf")])
    assert mean_iou(refined, by_brute_force(RANGE[0])) > 0.95


def test_colour_form_of_pydensecrf_is_the_same_kernel():
    library = pytest.importorskip("pydensecrf.densecrf")
    row = RANGE[0].to_tensor().tolist()
    pairs = zip(CROPS.unpack(CROPS.intensity), CROPS.unpack(CROPS.prob), strict=True)
    refined = [refine_one(library, image.numpy(), prob.numpy(), row, 5, colour=True) for image, prob in pairs]
    assert mean_iou(torch.cat([torch.from_numpy(q).reshape(-1) for q in refined]), by_brute_force(RANGE[0])) > 0.95


def test_a_missing_pydensecrf_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(UserError, match="pip install pydensecrf2"):
        refine_probability(np.zeros((3, 3), np.uint8), np.zeros((3, 3)), CRFParams(), "pydensecrf")
