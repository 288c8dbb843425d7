from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import kemr_lightning
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.prediction import inference
from kemr_lightning.prediction.inference import Model, usual_tiling
from kemr_lightning.prediction.tiling import Tiling
from kemr_lightning.refinement import CRFParams, Refiner
from kemr_lightning.refinement.actions import Action
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner
from tests.conftest import rods
from tests.prediction.helpers import BrightModule, bright_parts, grow


def model(**settings: object) -> Model:
    return Model(BrightModule(), **settings)  # type: ignore[arg-type]


def same(found: Instances, wanted: Instances) -> bool:
    """Whether the masks are the same, in any order."""
    first, second = ({mask.numpy().tobytes() for mask in each.masks()} for each in (found, wanted))
    return len(found) == len(wanted) and first == second


def test_every_kind_of_image_gives_the_same(tmp_path: Path) -> None:
    image = rods(1)[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    wanted = bright_parts(image)
    for given in (
        image,
        torch.from_numpy(image),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(image),
        Image.fromarray(image).convert("RGB"),
        np.stack([image] * 3, axis=-1),
    ):
        assert same(model(refiner=grow).predict(given), wanted)


def test_initial_and_refined_instances() -> None:
    image = torch.from_numpy(rods(1)[0])
    plain, refined = model()(image), model(refiner=grow)(image)
    assert plain.refined is None
    assert plain.cut is None
    assert plain.final is plain.initial
    assert refined.final is refined.refined
    assert same(refined.initial, plain.initial)
    for before, after in zip(refined.initial.patches or [], refined.final.patches or [], strict=True):
        assert before.area() < after.area()


def test_large_images_are_cut_and_put_together() -> None:
    image = np.tile(rods(3)[0], (3, 3))
    cut = model(tiling=Tiling(128, 60))
    found = cut.predict(image)
    assert same(found, model().predict(image))
    assert len(cut.module.seen) > 4  # type: ignore[arg-type]
    refined = model(tiling=Tiling(128, 60), refiner=lambda pixels, instances: instances).predict(image)
    assert same(refined, found)


def test_the_limit_is_logged_where_it_costs_something(caplog: pytest.LogCaptureFixture) -> None:
    image = torch.from_numpy(np.tile(rods(3)[0], (3, 3)))  # 96 x 128 pixels with 4 rods, nine times
    single = rods(3)[0]
    parts = len(bright_parts(single))

    def told(most: int, tiling: Tiling | None, *names: str) -> list[str]:
        caplog.clear()
        limited = Model(BrightModule(most), None, tiling)  # type: ignore[arg-type]
        for name in names:
            limited(image, name)
        assert limited.missed == bool(caplog.records)
        return [record.getMessage() for record in caplog.records]

    # Scores fall from 0.98 to 0.4, so that what is left out of half is likely: each image is named.
    for lines in (told(9, None, "a.png", "b.png"), told(2, Tiling(128, 64), "a.png", "b.png")):
        assert [line.split(":")[0] for line in lines] == ["a.png", "b.png"]
        assert "Smaller tiles" in lines[0]
    # Tiles that are full and cut further show everything in the end.
    assert told(3 * parts, Tiling(256, 48), "a.png") == []


def test_a_limit_of_unlikely_detections_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Unsure(BrightModule):
        def find(self, batch: list[Sample], factor: float | None = None) -> list[Instances]:
            (found,) = super().find(batch, factor)
            found.scores = found.scores * 0.2
            return [found]

    limited = Model(Unsure(1))  # type: ignore[arg-type]
    for name in ("a.png", "b.png"):
        limited(torch.from_numpy(rods(3)[0]), name)
    (record,) = caplog.records
    assert record.getMessage().startswith("a.png: the model has given as many detections as it can (1)")
    assert "Smaller tiles" not in record.getMessage()


def test_models_with_an_input_size_see_images_whole() -> None:
    module = BrightModule()
    assert usual_tiling(module) == Tiling()  # type: ignore[arg-type]
    module.scale = InputScale((1280, 1024))
    assert usual_tiling(module) is None  # type: ignore[arg-type]


class LookingModule(BrightModule):
    """Remembers how many views were asked for."""

    views = 1

    def look_in(self, views: int) -> None:
        self.views = views


def test_load_chooses_the_refiner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(inference, "load_module", lambda _: LookingModule())
    params = CRFParams(sigma_alpha=4, sigma_beta=20, sigma_gamma=2, w1=2, w2=1, iterations=3)
    usual = kemr_lightning.load("x.ckpt")
    assert isinstance(usual.refiner, Refiner)
    assert usual.refiner.params == CRFParams()
    assert usual.tiling == Tiling()
    assert kemr_lightning.load("x.ckpt", refine=None).refiner is None
    chosen = kemr_lightning.load("x.ckpt", refine=params, views=4)
    assert isinstance(chosen.refiner, Refiner)
    assert chosen.refiner.params == params
    assert chosen.module.views == 4
    known = Knowledge((Action("small", params, evidence=False),))
    known.save(tmp_path / "knowledge.safetensors")
    knowing = kemr_lightning.load("x.ckpt", tmp_path / "knowledge.safetensors", refine=None)
    assert isinstance(knowing.refiner, KnowledgeRefiner)
    assert knowing.refiner.knowledge.actions == known.actions


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (40, 33)])
def test_small_images(trained: Path, size: tuple[int, int]) -> None:
    loaded = kemr_lightning.load(trained / "checkpoints" / "best.ckpt")
    found = loaded.predict(np.full(size, 100, np.uint8))
    assert found.image_size == size
    assert all(p.window[2] <= size[1] and p.window[3] <= size[0] for p in found.patches or [])
