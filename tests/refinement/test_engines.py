"""Engines against the brute-force oracle, against each other and at the edges of their input."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.labelme import read_labelme
from kemr_lightning.refinement import CRFParams, refine_crops, refine_probability
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.dense_crf import to_intensity
from kemr_lightning.refinement.engines import automatic, compiled, refine_batched, refine_exact, refine_torch
from kemr_lightning.refinement.engines.windows import Layout, blur_taps, kaiser_bessel, nodes
from tests.refinement.test_dense_crf import by_loops

RANGE = [
    CRFParams(2, 9, 3, 3, 0, 5),
    CRFParams(2, 8, 1, 16, 4, 5),
    CRFParams(2, 35, 2, 2, 0, 5),
    CRFParams(3, 12, 2, 8, 2, 5),
    CRFParams(4, 60, 4, 16, 0, 5),
    CRFParams(4, 10, 3, 1, 1, 5),
    CRFParams(5, 15, 1, 4, 0, 5),
    CRFParams(6, 20, 2, 8, 2, 5),
    CRFParams(8, 35, 3, 4, 1, 5),
    CRFParams(8, 12, 2, 12, 3, 5),
    CRFParams(10, 25, 2, 6, 0, 5),
    CRFParams(12, 8, 2, 16, 0, 5),
    CRFParams(12, 60, 4, 2, 4, 5),
]


def crop_of(height: int, width: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A dark banded rod on a bright ground and a soft, displaced mask of it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    angle = rng.uniform(0, np.pi)
    along = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
    across = -(x - width / 2) * np.sin(angle) + (y - height / 2) * np.cos(angle)
    rod = (abs(along) < 0.33 * max(height, width)) & (abs(across) < 0.11 * max(height, width))
    bands = 40 * np.sin(along / rng.uniform(1.5, 3))
    picture = gaussian_filter(np.where(rod, 110 + bands, 210.0), 1) + rng.normal(0, 5, (height, width))
    moved = np.roll(rod, rng.integers(-2, 3, 2), (0, 1)).astype(float)
    mask = gaussian_filter(moved, 2.0)
    return torch.from_numpy(picture.clip(0, 255).astype(np.uint8)), torch.from_numpy(mask.clip(0, 1).astype(np.float32))


def texture_of(seed: int, colour: bool = False, amplitude: int = 128) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise in which a pixel has hardly any others like it, and soft blobs that have nothing to do with it."""
    rng = np.random.default_rng(seed)
    picture = rng.integers(128 - amplitude, 128 + amplitude, (40, 40, 3) if colour else (40, 40)).astype(np.uint8)
    blobs = gaussian_filter(rng.normal(size=(40, 40)), 3.0)
    prob = 1 / (1 + np.exp(-2.5 * blobs / blobs.std()))
    return to_intensity(torch.from_numpy(picture)), torch.from_numpy(prob.astype(np.float32))


def packed(shapes: list[tuple[int, int]]) -> Crops:
    pairs = [crop_of(*shape, seed) for seed, shape in enumerate(shapes)]
    return Crops.pack([image for image, _ in pairs], [prob for _, prob in pairs])


CROPS = packed([(46, 38), (30, 62), (41, 45)])


def table(params: CRFParams, crops: Crops = CROPS) -> torch.Tensor:
    return params.to_tensor().repeat(len(crops), 1)


def refine_compiled(crops: Crops, parameters: torch.Tensor, iterations: int, tolerance: float) -> torch.Tensor:
    """The compiled kernel, which must not leave a crop to others."""
    refined, left = compiled.refine_compiled(crops, parameters, iterations, tolerance)
    assert not left
    return refined


def mean_iou(a: torch.Tensor, b: torch.Tensor, crops: Crops = CROPS) -> float:
    ious = []
    for p, q in zip((a >= 0.5).split(crops.areas), (b >= 0.5).split(crops.areas), strict=True):
        union = int((p | q).sum())
        ious.append(int((p & q).sum()) / union if union else 1.0)
    return float(np.mean(ious))


@pytest.fixture(scope="module")
def oracle() -> dict[CRFParams, torch.Tensor]:
    return {params: refine_exact(CROPS, table(params), params.iterations, 0.01) for params in RANGE}


@pytest.mark.parametrize("run", [refine_torch, refine_batched])
@pytest.mark.parametrize("params", RANGE, ids=str)
def test_close_to_brute_force_over_the_range(run, params, oracle):
    refined = run(CROPS, table(params), params.iterations, 0.01)
    assert float((refined - oracle[params]).abs().max()) <= 0.02
    assert mean_iou(refined, oracle[params]) >= 0.995


@pytest.mark.parametrize("params", RANGE, ids=str)
def test_a_tighter_tolerance_reaches_a_thousandth(params, oracle):
    refined = refine_torch(CROPS, table(params), params.iterations, 1e-3)
    assert float((refined - oracle[params]).abs().max()) <= 1e-3


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


def test_chromosomes_do_not_pay_for_texture(monkeypatch):
    """Their crops are filtered once, on the grid that the tolerance asks for."""

    def never(tolerance: float, roughness: float) -> float:
        raise AssertionError(f"filtered again: roughness {roughness} at tolerance {tolerance}")

    monkeypatch.setattr(compiled, "for_roughness", never)
    for params in RANGE:
        refine_compiled(CROPS, table(params), 5, 0.01)
    image, prob = texture_of(0)
    with pytest.raises(AssertionError, match="filtered again"):
        refine_compiled(Crops.pack([image], [prob]), RANGE[0].to_tensor()[None], 5, 0.01)


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


def test_texture_does_not_depend_on_its_company_either():
    """Some of these crops go to a finer grid or to tensor operations, the others do not."""
    pairs = [texture_of(0), crop_of(46, 38, 0), texture_of(1, colour=True), crop_of(30, 62, 1)]
    for params in (CRFParams(2, 8, 2, 8), CRFParams(2, 8, 2, 16)):
        for tolerance in (0.01, 1e-3):
            together = refine_crops(*zip(*pairs, strict=True), params, tolerance=tolerance)
            for (image, prob), refined in zip(pairs, together, strict=True):
                assert torch.equal(refine_probability(image, prob, params, tolerance=tolerance), refined)


@pytest.mark.parametrize("engine", ["torch", "exact"])
def test_parameters_may_differ_from_instance_to_instance(engine):
    images, probs = CROPS.unpack(CROPS.intensity), CROPS.unpack(CROPS.prob)
    each = [RANGE[0], CRFParams(5, 15, 1, 4, 1, 3, temperature=2.0), CRFParams(iterations=0)]
    together = refine_crops(images, probs, each, engine)
    for image, prob, params, refined in zip(images, probs, each, together, strict=True):
        assert torch.equal(refine_probability(image, prob, params, engine), refined)


def test_tensor_operations_take_parameters_per_instance():
    rows = torch.stack([RANGE[i].to_tensor() for i in (0, 7, 11)])
    refined = refine_batched(CROPS, rows, 5, 0.01)
    assert float((refined - refine_exact(CROPS, rows, 5, 0.01)).abs().max()) <= 0.02


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


def test_learning_and_inference_agree(oracle):
    for params in RANGE[::4]:
        learning = refine_torch(CROPS, table(params).requires_grad_(), 5, 0.01).detach()
        assert float((learning - refine_torch(CROPS, table(params), 5, 0.01)).abs().max()) <= 0.02


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


def test_bands_of_a_large_crop_change_nothing(monkeypatch):
    """The grid of a crop that fills the image is cut into bands of rows."""
    crops = packed([(90, 40)])
    whole = refine_compiled(crops, table(RANGE[0], crops), 5, 0.01)
    monkeypatch.setattr(compiled, "MOST_CELLS", 1)
    banded = refine_compiled(crops, table(RANGE[0], crops), 5, 0.01)
    assert float((whole - banded).abs().max()) <= 2e-3


def test_without_numba_tensor_operations_do_the_work(monkeypatch, caplog):
    automatic._compiled.cache_clear()
    monkeypatch.setitem(sys.modules, "kemr_lightning.refinement.engines.compiled", None)
    refined = refine_torch(CROPS, table(RANGE[0]), 5, 0.01)
    automatic._compiled.cache_clear()
    assert "numba" in caplog.text
    assert torch.equal(refined, refine_batched(CROPS, table(RANGE[0]), 5, 0.01))


def test_importing_the_package_does_not_import_numba():
    import subprocess

    code = "import sys, kemr_lightning.refinement; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_window_and_taps_make_a_gaussian():
    """The one-dimensional kernel the grid realises, against the Gaussian, at every pair of positions."""
    for count, pitch, worst in ((4, 0.7, 2e-3), (4, 1.0, 2e-2), (6, 0.8, 2e-3), (6, 0.6, 1e-4)):
        layout = Layout(count, pitch)
        placed, taps = nodes(60, 5.0, layout), blur_taps(layout)[0]
        spread = np.zeros((60, placed.first[-1] + count))
        for i in range(60):
            spread[i, placed.first[i] : placed.first[i] + count] = placed.weights[count * i : count * (i + 1)]
        size = spread.shape[1]
        blur = sum(
            tap * (np.eye(size, k=r) + (np.eye(size, k=-r) if r else 0)) for r, tap in enumerate(taps.astype(float))
        )
        position = np.arange(60)
        gauss = np.exp(-((position[:, None] - position) ** 2) / 50)
        assert abs(spread @ blur @ spread.T - gauss).max() < worst


def test_the_window_ends_at_half_its_width():
    assert kaiser_bessel(np.array([-2.0, 0.0, 2.0, 3.0]), 4, 8.0).tolist() == [0.0, 1.0, 0.0, 0.0]
    assert kaiser_bessel(np.array([-3.0, 0.0, 3.0]), 6, 12.0).tolist() == [0.0, 1.0, 0.0]


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


def test_pydensecrf_is_near_the_oracle_elsewhere(oracle):
    pytest.importorskip("pydensecrf")
    images, probs = CROPS.unpack(CROPS.intensity), CROPS.unpack(CROPS.prob)
    refined = torch.cat([q.reshape(-1) for q in refine_crops(images, probs, RANGE[0], "pydensecrf")])
    assert mean_iou(refined, oracle[RANGE[0]]) > 0.95


def test_colour_form_of_pydensecrf_is_the_same_kernel(oracle):
    library = pytest.importorskip("pydensecrf.densecrf")
    from kemr_lightning.refinement.engines.reference import refine_one

    row = RANGE[0].to_tensor().tolist()
    pairs = zip(CROPS.unpack(CROPS.intensity), CROPS.unpack(CROPS.prob), strict=True)
    refined = [refine_one(library, image.numpy(), prob.numpy(), row, 5, colour=True) for image, prob in pairs]
    assert mean_iou(torch.cat([torch.from_numpy(q).reshape(-1) for q in refined]), oracle[RANGE[0]]) > 0.95


def test_a_missing_pydensecrf_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(UserError, match="pip install pydensecrf2"):
        refine_probability(np.zeros((3, 3), np.uint8), np.zeros((3, 3)), CRFParams(), "pydensecrf")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_agrees_with_cpu():
    there = Crops(CROPS.intensity.cuda(), CROPS.prob.cuda(), CROPS.sizes)
    for params in RANGE[::4]:
        on_cpu = refine_batched(CROPS, table(params), 5, 0.01)
        assert float((refine_torch(there, table(params), 5, 0.01).cpu() - on_cpu).abs().max()) <= 1e-3
