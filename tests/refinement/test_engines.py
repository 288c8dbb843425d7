"""What holds for all engines: they are near the exact one, and calm at the edges of their input."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.data.labelme import read_labelme
from kemr_lightning.refinement import (
    CRFParams,
    RefinementError,
    Refiner,
    refine_crops,
    refine_probability,
)
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.engines import ENGINES
from kemr_lightning.refinement.engines.automatic import refine_torch
from kemr_lightning.refinement.engines.batched import refine_batched
from kemr_lightning.refinement.engines.exact import refine_exact
from kemr_lightning.refinement.knowledge import from_params
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner
from tests.refinement.engines.helpers import (
    CROPS,
    RANGE,
    by_brute_force,
    crop_of,
    mean_iou,
    refine_compiled,
    table,
)
from tests.refinement.helpers import by_loops


@pytest.mark.parametrize("run", [refine_torch, refine_batched])
@pytest.mark.parametrize("params", RANGE, ids=str)
def test_close_to_brute_force_over_the_range(run, params):
    refined = run(CROPS, table(params), params.iterations, 0.01)
    assert float((refined - by_brute_force(params)).abs().max()) <= 0.02
    assert mean_iou(refined, by_brute_force(params)) >= 0.995


@pytest.mark.parametrize("run", [refine_torch, refine_batched])
@pytest.mark.parametrize("tiny", [1e-6, 0.05, 0.2])
def test_tiny_sigmas_join_nothing_and_take_no_memory(run, tiny):
    image, prob = crop_of(30, 25, 3)
    crops = Crops.pack([image], [prob])
    for names in (("sigma_alpha",), ("sigma_beta",), ("sigma_gamma",), ("sigma_alpha", "sigma_beta", "sigma_gamma")):
        params = CRFParams(**dict.fromkeys(names, tiny), w2=1.0)
        exact = refine_exact(crops, table(params, crops), 5, 0)
        assert float((run(crops, table(params, crops), 5, 0.01) - exact).abs().max()) <= 0.02, names


@pytest.mark.skipif("KEMR_REAL_DATA" not in os.environ, reason="needs real images")
@pytest.mark.parametrize("folder", ["bioimlab/train", "mfish"])
def test_close_to_brute_force_on_real_images(folder):
    path = sorted(Path(os.environ["KEMR_REAL_DATA"], folder).glob("*.json"))[0]
    read = read_labelme(path)
    image = torch.from_numpy(read.image.copy())
    pairs = []
    for patch in read.instances.patches:
        x0, y0, x1, y1 = patch.window
        height, width = y1 - y0 + 20, x1 - x0 + 20
        inside = x0 >= 10 and y0 >= 10 and y1 + 10 <= image.shape[0] and x1 + 10 <= image.shape[1]
        if inside and height * width <= 80 * 80 and len(pairs) < 4:
            mask = np.zeros((height, width))
            mask[11 : height - 9, 9 : width - 11] = patch.values.numpy()
            soft = gaussian_filter(mask, 2.0).clip(0.002, 0.998).astype(np.float32)
            pairs.append((image[y0 - 10 : y1 + 10, x0 - 10 : x1 + 10].contiguous(), torch.from_numpy(soft)))
    assert len(pairs) == 4
    crops = Crops.pack([crop for crop, _ in pairs], [prob for _, prob in pairs])
    for params in RANGE:
        exact = refine_exact(crops, table(params, crops), 5, 0)
        for tolerance, allowed in ((0.01, 0.02), (1e-3, 1e-3)):
            refined = refine_torch(crops, table(params, crops), 5, tolerance)
            assert float((refined - exact).abs().max()) <= allowed, params
            assert mean_iou(refined, exact, crops) >= 0.995, params


def test_the_crf_moves_these_masks():
    """So that agreement between engines is about something."""
    refined = refine_torch(CROPS, table(RANGE[3]), 5, 0.01)
    assert mean_iou(refined, CROPS.prob) < 0.95


def test_twice_gives_the_same_bits():
    for run in (refine_torch, refine_batched):
        first, second = (run(CROPS, table(RANGE[3]), 5, 0.01) for _ in range(2))
        assert torch.equal(first, second)


def test_an_instance_does_not_depend_on_its_company():
    images, probs = CROPS.unpack(CROPS.intensity), CROPS.unpack(CROPS.prob)
    for run, close in ((refine_compiled, 0.0), (refine_batched, 1e-5)):
        together = CROPS.unpack(run(CROPS, table(RANGE[0]), 5, 0.01))
        for image, prob, refined in zip(images, probs, together, strict=True):
            alone = run(Crops.pack([image], [prob]), RANGE[0].to_tensor()[None], 5, 0.01).view_as(prob)
            assert float((alone - refined).abs().max()) <= close


@pytest.mark.parametrize("engine", ["torch", "exact"])
def test_parameters_may_differ_from_instance_to_instance(engine):
    images, probs = CROPS.unpack(CROPS.intensity), CROPS.unpack(CROPS.prob)
    each = [RANGE[0], CRFParams(5, 15, 1, 4, 1, 3, temperature=2.0), CRFParams(iterations=0)]
    together = refine_crops(images, probs, each, engine)
    for image, prob, params, refined in zip(images, probs, each, together, strict=True):
        assert torch.equal(refine_probability(image, prob, params, engine), refined)


@pytest.mark.parametrize("engine", ["torch", "exact", "pydensecrf"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_thin_crops(engine, shape):
    if engine == "pydensecrf":
        pytest.importorskip("pydensecrf")
    image, prob = crop_of(40, 40, 7)
    middle = tuple(slice((40 - side) // 2, (40 - side) // 2 + side) for side in shape)
    image, prob = image[middle].contiguous(), prob[middle].contiguous()
    params = CRFParams(3, 12, 2, 4, 1, 5)
    refined = refine_probability(image, prob, params, engine)
    assert refined.shape == shape
    wanted = torch.from_numpy(by_loops(image.numpy(), prob.numpy(), params)).float()
    assert float((wanted - prob).abs().max()) > 0.04
    close = {"torch": 0.02, "exact": 1e-5, "pydensecrf": 0.1}[engine]
    assert float((refined - wanted).abs().max()) <= close


@pytest.mark.parametrize("run", [refine_compiled, refine_batched])
@pytest.mark.parametrize("prob", [0.0, 1.0, 0.3])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_images_and_constant_probabilities(run, prob, level):
    crops = Crops(torch.full((600,), level, dtype=torch.uint8), torch.full((600,), prob), ((20, 30),))
    params = CRFParams(2, 9, 3, 3, 1, 5)
    refined = run(crops, table(params, crops), 5, 0.01)
    assert bool(torch.isfinite(refined).all())
    assert bool(((refined >= 0) & (refined <= 1)).all())
    assert float((refined - refine_exact(crops, table(params, crops), 5, 0.01)).abs().max()) <= 0.02


def test_an_engine_registered_at_run_time_is_one_like_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known to the entry point, both refiners, the configuration and the list in the error message."""
    calls = []

    def halve(crops: Crops, parameters: torch.Tensor, iterations: int, tolerance: float) -> torch.Tensor:
        calls.append((tuple(parameters.shape), iterations, tolerance))
        return crops.prob / 2

    monkeypatch.setitem(ENGINES, "mine", halve)
    image, prob = crop_of(12, 10, 0)
    assert torch.equal(refine_probability(image, prob, CRFParams(iterations=3), "mine", 0.2), prob / 2)
    assert calls == [((1, 6), 3, 0.2)]
    boxes = torch.tensor([[0.0, 0, 10, 12]])
    one = Instances((12, 10), boxes, torch.ones(1), torch.ones(1, dtype=torch.int64), [Patch(0, 0, prob)])
    knowing = KnowledgeRefiner(from_params(CRFParams()), "mine")
    for refiner in (Refiner(CRFParams(), "mine"), Refiner.from_values(w1=2, engine="mine"), knowing):
        refined = refiner(image, one).patches
        assert refined is not None
        assert torch.equal(refined[0].values, prob / 2)
    with pytest.raises(RefinementError, match=r"engine=other .* exact, mine, pydensecrf, torch"):
        Refiner(CRFParams(), "other")
