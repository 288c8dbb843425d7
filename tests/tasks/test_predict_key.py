"""What ``task=predict`` builds from the configuration, and the key by which finished images are known again."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

import kemr_lightning
from kemr_lightning.assembly import refiner as refiner_module
from kemr_lightning.assembly.refiner import build_refiner
from kemr_lightning.data.input_scale import InputScale
from kemr_lightning.prediction.predict_folder import PredictionRun
from kemr_lightning.prediction.settings import PredictSettings
from kemr_lightning.prediction.tiling import Tiling
from kemr_lightning.refinement import CRFParams, Knowledge
from kemr_lightning.refinement.actions import Action
from kemr_lightning.tasks import predict as predict_module
from kemr_lightning.tasks.predict import build_run
from tests.conftest import compose
from tests.prediction.helpers import BrightModule, grow

FIXTURES = Path(__file__).parent.parent / "fixtures" / "v0_1_0"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file to name; nothing reads it as a model."""
    path = tmp_path / "best.ckpt"
    path.write_bytes(b"weights")
    return path


@pytest.fixture(scope="module")
def defaults() -> DictConfig:
    """The configuration of ``task=predict``; for reading only."""
    return compose("task=predict", "data.root=/images")


def changed(config: DictConfig, **values: object) -> DictConfig:
    """A copy with other values; a double underscore stands for a dot."""
    copied = copy.deepcopy(config)
    for key, value in values.items():
        OmegaConf.update(copied, key.replace("__", "."), value, merge=False)
    return copied


def build(config: DictConfig, checkpoint: Path, **values: object) -> PredictionRun:
    return build_run(changed(config, **values), checkpoint, checkpoint.parent)


def test_tiles_follow_the_model(defaults: DictConfig, checkpoint: Path, module: BrightModule) -> None:
    assert build(defaults, checkpoint).model.tiling == Tiling(1536, 384)
    assert build(defaults, checkpoint, predict__tile=None).model.tiling is None
    module.scale = InputScale((1280, 1024))
    assert build(defaults, checkpoint).model.tiling is None
    assert build(defaults, checkpoint, predict__tile=800, predict__overlap=100).model.tiling == Tiling(800, 100)


def test_what_a_run_is_built_of(defaults: DictConfig, checkpoint: Path, module: BrightModule) -> None:
    names = {"a": "b", "c": None}
    run = build(defaults, checkpoint, predict__score=0.3, data__format="coco", data__label_map=names)
    assert (run.root, run.directory, run.data_format) == (Path("/images"), checkpoint.parent, "coco")
    assert run.settings == PredictSettings(score=0.3)
    assert run.label_map == names
    assert run.model.refiner is grow
    assert run.model.module.views == 1
    assert build(defaults, checkpoint, views=4).model.module.views == 4
    assert build(defaults, checkpoint).label_map == "single"
    assert build(defaults, checkpoint, data__label_map=None).label_map is None


def test_directories_of_earlier_versions_resume(
    defaults: DictConfig, checkpoint: Path, module: BrightModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys that the first version of ``task=predict`` has computed for the same configurations."""
    monkeypatch.setattr(kemr_lightning, "__version__", "0.1.0")
    for key, values in (
        ("663535b40ced0760e306", {}),
        ("833edfd7e0884a44dc2f", {"refine": None, "predict__score": 0.1, "predict__tile": None}),
        ("cf9245228467dfaf24f0", {"refine__w1": 2, "predict__tile": 800, "data__label_map": {"a": "b"}}),
    ):
        assert build(defaults, checkpoint, **values).key == key


PARAMS = CRFParams(sigma_alpha=4, sigma_beta=20, sigma_gamma=2, w1=2, w2=1, iterations=3)


def known(w1: float) -> Knowledge:
    return Knowledge((Action("small", replace(PARAMS, w1=w1), evidence=False),))


def test_the_key_follows_all_that_finished_images_depend_on(
    defaults: DictConfig, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "load_module", lambda _: BrightModule())
    files = [str(tmp_path / name) for name in ("first.safetensors", "second.safetensors")]
    for file, w1 in zip(files, (2, 5), strict=True):
        known(w1).save(file)
    changes: list[dict[str, object]] = [
        {},
        {"refine": None},
        {"refine__w1": 2},
        {"predict__score": 0.4},
        {"predict__crops": False},
        {"views": 4},
        {"data__label_map": None},
        {"knowledge": files[0]},
        {"knowledge": files[1]},
        {"knowledge": files[0], "refine__engine": "exact"},
    ]
    keys = [build(defaults, checkpoint, **values).key for values in changes]
    checkpoint.write_bytes(b"other weights")
    keys.append(build(defaults, checkpoint).key)
    monkeypatch.setattr(kemr_lightning, "__version__", "9.9.9")
    keys.append(build(defaults, checkpoint).key)
    assert len(set(keys)) == len(keys)
    # Where the images lie and where the results go is none of it.
    assert build(defaults, checkpoint, data__root="/elsewhere", seed=3).key == keys[-1]


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ((), "0113792c402c0caef012"),
        (("refine.w1=5",), "7c22a37d5fb081f79535"),
        (("refine.engine=exact",), "c4c2e80b7b793caa84b7"),
    ],
)
def test_directories_of_earlier_versions_with_knowledge_go_on(
    words: tuple[str, ...],
    key: str,
    checkpoint: Path,
    module: BrightModule,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As above; parameters that the command line names are in the key even where the configuration has them too."""
    shutil.copyfile(FIXTURES / "knowledge.safetensors", checkpoint.with_name("knowledge.safetensors"))
    monkeypatch.chdir(checkpoint.parent)
    monkeypatch.setattr(kemr_lightning, "__version__", "0.1.0")
    monkeypatch.setattr(refiner_module, "given_overrides", lambda: words)
    monkeypatch.setattr(predict_module, "build_refiner", build_refiner)
    config = compose("task=predict", "data.root=/images", "knowledge=knowledge.safetensors", *words)
    assert build(config, checkpoint).key == key
