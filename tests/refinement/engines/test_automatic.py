"""The torch engine: accuracy, gradients, and what it does without numba or on a GPU."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from kemr_lightning.refinement import (
    CRFParams,
    refine_crops,
    refine_probability,
)
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines import automatic
from kemr_lightning.refinement.engines.automatic import refine_torch
from kemr_lightning.refinement.engines.batched import refine_batched
from kemr_lightning.refinement.engines.exact import refine_exact
from tests.refinement.engines.helpers import (
    CROPS,
    RANGE,
    by_brute_force,
    crop_of,
    packed,
    table,
    texture_of,
)


@pytest.mark.parametrize("params", RANGE, ids=str)
def test_a_tighter_tolerance_reaches_a_thousandth(params):
    refined = refine_torch(CROPS, table(params), params.iterations, 1e-3)
    assert float((refined - by_brute_force(params)).abs().max()) <= 1e-3


@pytest.mark.parametrize("w1", [4.0, 8.0, 16.0])
def test_texture_keeps_the_tolerance(w1):
    """Where few pixels are alike, the filter's error is large beside the kernel's row sums, and then amplified."""
    pairs = [texture_of(seed, colour) for colour in (False, True) for seed in range(8)]
    pairs += [texture_of(seed, amplitude=amplitude) for amplitude in (20, 40, 80) for seed in range(2)]
    crops = Crops.pack([image for image, _ in pairs], [prob for _, prob in pairs])
    params = CRFParams(2, 8, 2, w1, 0, 5)
    exact = refine_exact(crops, table(params, crops), 5, 0)
    for tolerance, allowed in ((0.01, 0.012), (1e-3, 1e-3)):
        refined = refine_torch(crops, table(params, crops), 5, tolerance)
        assert float((refined - exact).abs().max()) <= allowed


@pytest.mark.parametrize("iterations", [20, 100])
def test_many_iterations_keep_the_tolerance(iterations):
    """Each update amplifies the error of pixels that could go either way."""
    pairs = [texture_of(seed) for seed in range(4)] + [crop_of(40, 44, seed) for seed in range(4)]
    crops = Crops.pack([image for image, _ in pairs], [prob for _, prob in pairs])
    for params in (CRFParams(2, 8, 2, 5, 0), CRFParams(3, 8, 2, 4.4, 1.7, temperature=4), CRFParams(2.4, 17.5, 2, 7.5)):
        exact = refine_exact(crops, table(params, crops), iterations, 0)
        for tolerance, allowed in ((0.01, 0.02), (1e-3, 1e-3)):
            refined = refine_torch(crops, table(params, crops), iterations, tolerance)
            assert float((refined - exact).abs().max()) <= allowed, params


def test_texture_does_not_depend_on_its_company_either():
    """Some of these crops go to a finer grid or to tensor operations, the others do not."""
    pairs = [texture_of(0), crop_of(46, 38, 0), texture_of(1, colour=True), crop_of(30, 62, 1)]
    for params in (CRFParams(2, 8, 2, 8), CRFParams(2, 8, 2, 16)):
        for tolerance in (0.01, 1e-3):
            together = refine_crops(*zip(*pairs, strict=True), params, tolerance=tolerance)
            for (image, prob), refined in zip(pairs, together, strict=True):
                assert torch.equal(refine_probability(image, prob, params, tolerance=tolerance), refined)


def test_gradients_are_those_of_brute_force():
    """Central differences of the float64 oracle, in all six parameters of each instance."""
    crops = packed([(18, 22), (25, 14)])
    rows = torch.stack([CRFParams(2.5, 14, 1.5, 3, 1, 5, 1.3).to_tensor(), CRFParams(4, 30, 2, 5, 0.5).to_tensor()])
    target = (CROPS.prob[: sum(crops.areas)] > 0.3).double()

    def loss(refined: torch.Tensor) -> torch.Tensor:
        return ((refined.double() - target) ** 2).sum()

    leaf = rows.clone().requires_grad_()
    loss(refine_torch(crops, leaf, 5, 1e-4)).backward()
    assert leaf.grad is not None
    for i in range(2):
        for j in range(6):
            step = torch.zeros_like(rows)
            step[i, j] = 0.02
            ahead, behind = (loss(refine_exact(crops, rows + s, 5, 0)) for s in (step, -step))
            assert float(leaf.grad[i, j]) == pytest.approx(float(ahead - behind) / 0.04, rel=0.02, abs=2e-3)


def test_the_probability_has_a_gradient_too():
    prob = CROPS.prob.clone().clamp(0.01, 0.99).requires_grad_()
    refine_torch(Crops(CROPS.intensity, prob, CROPS.sizes), table(RANGE[0]), 5, 0.01).sum().backward()
    assert prob.grad is not None
    assert bool((prob.grad > 0).all())


def test_learning_and_inference_agree():
    for params in RANGE[::4]:
        learning = refine_torch(CROPS, table(params).requires_grad_(), 5, 0.01).detach()
        assert float((learning - refine_torch(CROPS, table(params), 5, 0.01)).abs().max()) <= 0.02


def test_without_numba_tensor_operations_do_the_work(monkeypatch, caplog):
    automatic._compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "kemr_lightning.refinement.engines.compiled", None)
    refined = refine_torch(CROPS, table(RANGE[0]), 5, 0.01)
    automatic._compiled.cache_clear()
    assert "numba" in caplog.text
    assert torch.equal(refined, refine_batched(CROPS, table(RANGE[0]), 5, 0.01))


def test_importing_the_package_does_not_import_numba():
    code = "import sys, kemr_lightning.refinement; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_cpu():
    there = Crops(CROPS.intensity.cuda(), CROPS.prob.cuda(), CROPS.sizes)
    for params in RANGE[::4]:
        on_cpu = refine_batched(CROPS, table(params), 5, 0.01)
        assert float((refine_torch(there, table(params), 5, 0.01).cpu() - on_cpu).abs().max()) <= 1e-3
