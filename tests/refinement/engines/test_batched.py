"""Tensor operations against brute force."""

from __future__ import annotations

import torch

from kemr_lightning.refinement.engines.batched import _intensity_factors, node_spacing, refine_batched
from kemr_lightning.refinement.engines.exact import refine_exact
from tests.refinement.engines.helpers import (
    CROPS,
    RANGE,
    packed,
    table,
)


def test_tensor_operations_take_parameters_per_instance():
    rows = torch.stack([RANGE[i].to_tensor() for i in (0, 7, 11)])
    refined = refine_batched(CROPS, rows, 5, 0.01)
    assert float((refined - refine_exact(CROPS, rows, 5, 0.01)).abs().max()) <= 0.02


def test_the_factors_of_intensity_make_a_gaussian() -> None:
    sigma = torch.tensor([4.0, 12.0, 40.0])
    for tolerance, worst in ((0.01, 1e-3), (1e-4, 1e-5)):
        factors = _intensity_factors(sigma, node_spacing(tolerance, 1.0), 4.0)
        product = (factors[:, :, :, None] * factors[:, :, None, :]).sum(dim=1)
        level = torch.arange(256.0)
        wanted = torch.exp(-((level[:, None] - level) ** 2) / (2 * sigma[:, None, None] ** 2))
        assert float((product - wanted).abs().max()) < worst


def test_padding_does_not_reach_the_crops() -> None:
    crops = packed([(12, 40), (40, 12), (25, 25), (24, 26)])
    together = crops.unpack(refine_batched(crops, table(RANGE[3], crops), 5, 0.01))
    for which, wanted in enumerate(together):
        alone = refine_batched(crops.select([which]), RANGE[3].to_tensor()[None], 5, 0.01)
        assert float((alone.view_as(wanted) - wanted).abs().max()) < 1e-5
