"""Crop, refine, put back."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from kemr_lightning.core.errors import SettingError, settings_under
from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.refinement import CRFParams, RefinementError, Refiner, refine_probability

PARAMS = CRFParams(2, 15, 2, 4, 0.5, 5)


def picture() -> torch.Tensor:
    image = torch.full((50, 60), 200, dtype=torch.uint8)
    image[10:40, 20:28] = 90
    noise = torch.randint(0, 12, image.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return image + noise


def instances(*patches: Patch) -> Instances:
    count = len(patches)
    return Instances(
        (50, 60),
        torch.arange(4.0 * count).view(count, 4),
        torch.linspace(0.2, 0.9, count),
        torch.arange(1, count + 1),
        list(patches),
        torch.linspace(0, 0.5, count),
    )


def soft(x0: int, y0: int, width: int, height: int) -> Patch:
    return Patch(x0, y0, torch.rand(height, width, generator=torch.Generator().manual_seed(x0)) * 0.5 + 0.2)


def test_only_the_patches_change():
    given = instances(soft(18, 8, 12, 34), soft(0, 0, 9, 7), soft(59, 49, 1, 1), soft(0, 0, 60, 50))
    kept = [patch.values.clone() for patch in given.patches or []]
    refined = Refiner(PARAMS)(picture(), given)
    assert given.patches is not None
    assert refined.patches is not None
    for name in ("boxes", "scores", "labels", "disagreement"):
        assert torch.equal(getattr(refined, name), getattr(given, name))
    assert refined.image_size == given.image_size
    for before, after, copy in zip(given.patches, refined.patches, kept, strict=True):
        assert after.window == before.window
        assert after.values.dtype == torch.float32
        assert not torch.equal(after.values, before.values)
        assert torch.equal(before.values, copy)


def test_a_patch_is_refined_on_itself_and_its_margin():
    image, patch = picture(), soft(18, 8, 12, 34)
    refined = Refiner(PARAMS, margin=5)(image, instances(patch)).patches
    prob = torch.zeros(44, 22)
    prob[5:39, 5:17] = patch.values
    wanted = refine_probability(image[3:47, 13:35], prob, PARAMS)
    assert refined is not None
    assert torch.equal(refined[0].values, wanted[5:39, 5:17])


def test_the_margin_ends_at_the_image():
    image, patch = picture(), soft(55, 2, 5, 10)
    refined = Refiner(PARAMS, margin=4)(image, instances(patch)).patches
    prob = torch.zeros(16, 9)
    prob[2:12, 4:9] = patch.values
    assert refined is not None
    assert torch.equal(refined[0].values, refine_probability(image[0:16, 51:60], prob, PARAMS)[2:12, 4:9])


def test_an_open_border_lets_a_cut_mask_grow_back():
    """The patch ends in the middle of the rod; outside it the image continues."""
    image = picture()
    cut = Patch(20, 10, torch.full((20, 8), 0.95))
    params = CRFParams(4, 15, 2, 8, 0, 10)
    closed = Refiner(params)(image, instances(cut)).patches
    grown = Refiner(params, outside=0.45)(image, instances(cut)).patches
    assert closed is not None
    assert grown is not None
    assert closed[0].window == (20, 10, 28, 30)
    assert grown[0].window == (10, 0, 38, 40)
    rod = torch.zeros(40, 28, dtype=torch.bool)
    rod[10:40, 10:18] = True
    mask = grown[0].binary()
    assert float((mask & rod).sum() / (mask | rod).sum()) > 0.9
    assert grown[0].area() > closed[0].area()


def test_every_instance_may_have_its_own_parameters():
    image, given = picture(), instances(soft(18, 8, 12, 34), soft(2, 3, 9, 7))
    each = [PARAMS, CRFParams(iterations=0)]
    refined = Refiner(CRFParams())(image, given, each).patches
    assert refined is not None
    assert given.patches is not None
    for index, params in enumerate(each):
        alone = Refiner(params)(image, given[[index]]).patches
        assert alone is not None
        assert torch.equal(alone[0].values, refined[index].values)


def test_binary_masks_are_refined_too():
    """A mask two pixels beside the rod moves onto it; the temperature makes 0 and 1 less than sure."""
    rod = torch.zeros(34, 14, dtype=torch.bool)
    rod[2:32, 2:10] = True
    beside = torch.roll(rod, 2, 1)
    refined = Refiner(CRFParams(4, 15, 2, 8, 0, 10, temperature=4))(picture(), instances(Patch(18, 8, beside))).patches
    assert refined is not None
    assert not torch.equal(beside, rod)
    assert torch.equal(refined[0].binary(), rod)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of memory cannot be reset here")
def test_an_image_of_46_instances_takes_little_memory():
    def held(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(name)).split()[1])

    chance = torch.Generator().manual_seed(0)
    image = torch.randint(0, 60, (1024, 1280), generator=chance, dtype=torch.uint8)
    patches = [
        Patch(20 + 150 * (i % 8), 20 + 160 * (i // 8), torch.rand(110, 90, generator=chance) * 0.8) for i in range(46)
    ]
    given = replace(instances(*patches), image_size=(1024, 1280))
    Refiner(PARAMS)(image, given[[0]])  # Compiled beforehand.
    Path("/proc/self/clear_refs").write_text("5")
    before = held("VmRSS")
    Refiner(PARAMS)(image, given)
    assert held("VmHWM") - before < 200 * 1024


def test_nothing_to_refine():
    image = picture()
    assert len(Refiner(PARAMS)(image, Instances.empty((50, 60)))) == 0
    boxes_only = Instances((50, 60), torch.zeros(1, 4), torch.ones(1), torch.ones(1, dtype=torch.int64), None)
    assert Refiner(PARAMS)(image, boxes_only).patches is None


def test_errors_name_the_instance():
    image, broken = picture(), soft(3, 3, 5, 5)
    broken.values[2, 2] = float("nan")
    with pytest.raises(RefinementError, match=r"instance 1: .*NaN"):
        Refiner(PARAMS)(image, instances(soft(18, 8, 12, 34), broken))
    with pytest.raises(RefinementError, match=r"\(40, 60\)"):
        Refiner(PARAMS)(image[:40], instances(soft(1, 1, 4, 4)))
    with pytest.raises(RefinementError, match=r"instance 0: .*leaves the image"):
        Refiner(PARAMS)(image, instances(soft(58, 1, 4, 4)))


def test_configuration(request):
    with initialize_config_dir(str(request.config.rootpath / "conf"), version_base="1.3"):
        config = compose("config", overrides=["refine=dense_crf", "refine.sigma_alpha=3.5", "refine.engine=exact"])
        refiner = instantiate(config.refine)
        assert isinstance(refiner, Refiner)
        assert refiner.params.sigma_alpha == 3.5
        assert refiner.engine == "exact"
        assert compose("config", overrides=["refine=none"]).refine is None
        wrong = compose("config", overrides=["refine.sigma_alpha=-1"]).refine
        said = r"^refine\.sigma_alpha=-1 must be greater than 0\. Useful values are 1 to 10 pixels$"
        with pytest.raises(SettingError, match=said), settings_under("refine"):
            instantiate(wrong)


def test_values_of_an_older_configuration_still_make_a_refiner() -> None:
    values = {"sigma_alpha": 2.5, "sigma_beta": 9, "sigma_gamma": 3, "w1": 4, "w2": 0.5, "iterations": 7}
    target = {"_target_": "kemr_lightning.refinement.Refiner.from_values", "temperature": 1.5, "engine": "exact"}
    refiner = instantiate({**target, **values, "margin": 4, "tolerance": 0.02, "outside": 0.3})
    assert refiner.params == CRFParams(2.5, 9, 3, 4, 0.5, 7, 1.5)
    assert (refiner.engine, refiner.margin, refiner.tolerance, refiner.outside) == ("exact", 4, 0.02, 0.3)
    with pytest.raises(RefinementError, match="sigma=2 is not a parameter of the CRF"):
        Refiner.from_values(sigma=2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"margin": -1}, r"margin=-1 must be a whole number of pixels"),
        ({"margin": 2.5}, r"margin=2\.5 must be"),
        ({"outside": 0.5}, r"outside=0\.5 must be at least 0 and below 0\.5"),
        ({"engine": "gpu"}, r"engine=gpu is an unknown refinement engine"),
        ({"tolerance": 0.0}, r"tolerance=0\.0 must be greater than 0"),
    ],
)
def test_wrong_options_are_settings_and_refinement_errors(values: dict[str, Any], words: str) -> None:
    with pytest.raises(RefinementError, match=words) as caught:
        Refiner(PARAMS, **values)
    assert isinstance(caught.value, SettingError)
    assert isinstance(caught.value, ValueError)
