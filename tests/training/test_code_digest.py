"""Which code a model's predictions depend on: compared with the code that really runs, and with files that change."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import hydra
import pytest
import torch
from omegaconf import OmegaConf

import kemr_lightning
from kemr_lightning.training.code_digest import code_digest, source_files
from kemr_lightning.training.module import SegmentationModule
from tests.conftest import compose
from tests.training.helpers import noise

ROOT = Path(kemr_lightning.__file__).parent
FILES = {
    "detector.py": """
        import json
        from torch import nn
        from toys.layers import Layer
        from . import helpers, nothing

        class Base(nn.Module):
            kind, max_detections, max_views = "toy", 1, 1

        class Toy(Base):
            def __init__(self):
                super().__init__()
                self.layer = Layer()

            def forward(self, images):
                from .deep.inner import detect
                return detect(images)

            def detect_in_views(self, image, views):
                return None
        """,
    "layers.py": """
        import toys.weights as weights
        from toys.parts.plain import Part

        class Layer(Part):
            pass
        """,
    "parts/plain.py": "from torch import nn\nclass Part(nn.Identity):\n    pass\n",
    "parts/unused.py": "",
    "deep/inner.py": "from ..constants import VALUE\nfrom toys.deep import NUMBER\ndef detect(images): ...\n",
    "deep/__init__.py": "NUMBER = 3\n",
    "build.py": "from .detector import Toy\nfrom .settings import WIDTH\ndef toy():\n    return Toy()\n",
    "settings.py": "WIDTH = 2\n",
    "constants.py": "VALUE = 1\n",
    "helpers.py": "",
    "weights.py": "",
    "nothing.py": "",
    "unrelated.py": "from toys.detector import Toy\n",
    "__init__.py": "",
    "parts/__init__.py": "",
}
USED = {name for name in FILES if name not in ("parts/unused.py", "unrelated.py", "__init__.py", "parts/__init__.py")}


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a stranger's detector."""
    for name, text in FILES.items():
        path = tmp_path / "toys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.split("\n")
        path.write_text("\n".join(line.removeprefix("        ") for line in lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "toys"
    for name in [name for name in sys.modules if name.partition(".")[0] == "toys"]:
        del sys.modules[name]


def toy_module() -> SegmentationModule:
    return SegmentationModule(importlib.import_module("toys.build").toy(), config={"_target_": "toys.build.toy"})


def test_the_files_of_a_strangers_detector(toys: Path) -> None:
    files = {path for name, path in source_files(toy_module()).items() if name.startswith("toys")}
    assert files == {toys / name for name in USED}


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_change_counts_where_the_detector_is_made_of_it(toys: Path, name: str) -> None:
    module = toy_module()
    before = code_digest(module)
    assert code_digest(module) == before
    with (toys / name).open("a") as stream:
        stream.write("\n# changed\n")
    assert (code_digest(module) != before) == (name in USED)


def test_a_file_that_moves_counts(toys: Path) -> None:
    module = toy_module()
    before = code_digest(module)
    (toys / "parts" / "plain.py").rename(toys / "parts" / "moved.py")
    assert code_digest(module) != before


def test_a_single_file_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "onefile_toy.py"
    file.write_text(
        "from torch import nn\nclass Toy(nn.Identity):\n    kind, max_detections, max_views = 'toy', 1, 1\n"
        "    def detect_in_views(self, image, views): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        module = SegmentationModule(importlib.import_module("onefile_toy").Toy())
        assert source_files(module)["onefile_toy"] == file
    finally:
        sys.modules.pop("onefile_toy", None)


def test_versions_of_the_libraries_count(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = toy_module()
    digests = {code_digest(module)}
    monkeypatch.setattr("torchvision.__version__", "0.0.1")
    digests.add(code_digest(module))
    monkeypatch.setattr("torch.__version__", "0.0.1")
    digests.add(code_digest(module))
    assert len(digests) == 3


@pytest.mark.parametrize("name", ["cascade_mask_rcnn_tiny", "mask_rcnn_tiny", "blendmask_tiny"])
def test_all_code_that_runs_is_among_the_files(name: str) -> None:
    """Building and predicting, watched by the interpreter, runs no file of the package that the digest leaves out."""
    config = {**OmegaConf.to_container(compose(f"model={name}").model, resolve=True), "num_classes": 1}  # type: ignore[dict-item]
    hydra.utils.instantiate(config, _convert_="all")  # imports what there is to import
    ran: set[Path] = set()

    def watch(frame: FrameType, event: str, argument: object) -> None:
        ran.add(Path(frame.f_code.co_filename))

    sys.setprofile(watch)
    try:
        module = SegmentationModule(hydra.utils.instantiate(config, _convert_="all"), config=config).eval()
        with torch.no_grad():
            module.predict_step([noise(size=(64, 64))], 0)
            if module.detector.max_views > 1:
                module.look_in(2)
                module.predict_step([noise(size=(64, 64))], 0)
    finally:
        sys.setprofile(None)
    own = {path for path in ran if path.is_relative_to(ROOT)}
    files = set(source_files(module).values())
    assert len(own) > 10
    assert own <= files
    assert {path.relative_to(ROOT).parts[0] for path in files} == {"core", "data", "models", "training"}
    assert (ROOT / "models" / "blendmask.py" in files) == (name == "blendmask_tiny")
    assert ROOT / "training" / "schedule.py" not in files
