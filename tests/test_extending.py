"""A toy model, engine, format, task, callback and metric, added from outside as `docs/extending.md` says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from omegaconf import DictConfig

import kemr_lightning.models
from kemr_lightning.assembly.build import build_data
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.annotation_format import Format, WriteOptions, Writer
from kemr_lightning.data.formats import FORMATS
from kemr_lightning.data.image import read_image
from kemr_lightning.data.record import Record
from kemr_lightning.refinement.engines import ENGINES
from kemr_lightning.tasks import run
from kemr_lightning.training.checkpoint import load_module
from tests.conftest import CONF, run_task
from tests.conftest import compose as plainly_composed

ROOT = CONF.parent

MODEL = '''
import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import nn

from kemr_lightning.core.instances import Detections


class Toy(nn.Module):
    """Finds what is brighter than a level, which it learns to be 0.45."""

    kind = "toy"
    max_detections = 100
    max_views = 1

    def __init__(self, level):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(float(level)))

    def forward(self, images, targets=None):
        if targets is not None:
            return {"loss_level": (self.level - 0.45).square()}
        return [self.found(image[0]) for image in images]

    def found(self, image):
        numbers, _ = ndimage.label((image > self.level.detach()).numpy())
        boxes, grids = [torch.zeros(0, 4)], [torch.zeros(0, 28, 28)]
        for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), start=1):
            mask = torch.from_numpy((numbers[rows, columns] == number).astype(np.float32))
            if mask.sum() > 30:
                boxes.append(torch.tensor([[columns.start, rows.start, columns.stop, rows.stop]], dtype=torch.float32))
                grids.append(F.interpolate(mask[None, None], (28, 28), mode="bilinear")[0])
        box, grid = torch.cat(boxes), torch.cat(grids)
        return Detections(box, torch.full((len(box),), 0.9), torch.ones(len(box), dtype=torch.int64), grid, box)

    def detect_in_views(self, image, views):
        raise NotImplementedError


def toy(num_classes, level=0.6) -> Toy:
    return Toy(level)
'''

EVERYTHING_ELSE = """
from dataclasses import dataclass

import torch
from lightning.pytorch import Callback

from kemr_lightning.assembly.settings import read_settings
from kemr_lightning.callbacks.refinement import refinement_of
from kemr_lightning.metrics.average_precision import average_precision
from kemr_lightning.metrics.segmentation import InstanceSegmentationMetric
from kemr_lightning.tasks.start import start


class WithStrictAP(InstanceSegmentationMetric):
    def compute(self):
        return super().compute() | {"AP90": torch.tensor(average_precision(self.records(), masks=True).at(0.9))}


class Counting(Callback):
    counted = []

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.counted += [(sample.name, len(prediction.final)) for sample, prediction in refinement_of(trainer).latest]


@dataclass(frozen=True)
class CountSettings:
    least: float = 0.5


def count(config):
    directory = start(config)
    settings = read_settings(config, "count", CountSettings)
    (directory / "count.txt").write_text(str(settings.least))
    return settings.least
"""

OWN_CONF = {
    "model/toy.yaml": "_target_: kemr_lightning.models.toy.toy\nlevel: 0.6\n",
    "experiment/toy_tiny.yaml": """
        # @package _global_
        defaults:
          - base/tiny
          - override /model: toy
        name: toy_tiny
        """,
    "metric/strict.yaml": "_target_: own_additions.WithStrictAP\n",
    "task/count.yaml": """
        # @package _global_
        task:
          name: count
          function: own_additions.count
        count:
          least: 0.25
        """,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with modules and configurations of somebody's own."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "models").mkdir()
    (folder / "models" / "toy.py").write_text(MODEL)
    (folder / "own_additions.py").write_text(EVERYTHING_ELSE)
    for name, text in OWN_CONF.items():
        path = folder / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"))
    return folder


@pytest.fixture(autouse=True)
def own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Python find the modules, the model as if its file lay with the package's."""
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr(kemr_lightning.models, "__path__", [*kemr_lightning.models.__path__, str(place / "models")])


def compose(place: Path, *overrides: str) -> DictConfig:
    """The configuration that ``python run.py --config-dir PLACE/conf OVERRIDES`` composes."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", [f"hydra.searchpath=['file://{place / 'conf'}']", *overrides])


def run_own(place: Path, run_dir: Path, *overrides: str) -> Path:
    run(compose(place, f"paths.run_dir='{run_dir}'", f"paths.runs='{run_dir.parent}'", *overrides))
    return run_dir


def figures(run_dir: Path) -> Any:
    return json.loads((run_dir / "metrics.json").read_text())


@pytest.fixture(scope="module")
def toy_run(place: Path, labelme_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of the toy model over 40 steps, without refinement."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place)
        patch.setattr(kemr_lightning.models, "__path__", [*kemr_lightning.models.__path__, str(place / "models")])
        return run_own(
            place,
            tmp_path_factory.mktemp("toy") / "run",
            *("experiment=toy_tiny", f"data.root='{labelme_root}'", "trainer.max_steps=40", "logger=csv"),
            *("optimizer.lr=0.01", "data.augmentation.crop_size=[96,96]", "callbacks.figures=null"),
        )


def score_toy(place: Path, toy_run: Path, labelme_root: Path, run_dir: Path, *overrides: str) -> Path:
    checkpoint = toy_run / "checkpoints" / "best.ckpt"
    data = f"data.root='{labelme_root}'"
    return run_own(
        place, run_dir, "task=test", f"ckpt='{checkpoint}'", data, "logger=csv", "callbacks.figures=null", *overrides
    )


def test_a_model_trains_and_its_checkpoint_rebuilds_it(toy_run: Path) -> None:
    module = load_module(toy_run / "checkpoints" / "best.ckpt")
    assert module.detector.kind == "toy"
    assert float(module.detector.level) == pytest.approx(0.45, abs=0.12)  # it began at 0.6
    assert figures(toy_run)["initial"]["AP50"] > 60


def test_a_model_is_compared_under_its_own_name(
    place: Path, toy_run: Path, trained: Path, labelme_root: Path, tmp_path: Path
) -> None:
    runs = f"runs=['{toy_run}','{trained}']"
    run_dir = run_own(place, tmp_path / "run", "task=compare", runs, "logger=csv", "compare.resamples=20")
    names = [row["name"] for row in json.loads((run_dir / "comparison.json").read_text())["systems"]]
    assert "toy" in names
    assert "Mask R-CNN" not in names


def test_an_engine(
    place: Path, toy_run: Path, labelme_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "nothing", lambda crops, parameters, iterations, tolerance: crops.prob.float() * 0)
    run_dir = score_toy(place, toy_run, labelme_root, tmp_path / "run", "refine.engine=nothing")
    assert figures(run_dir)["initial"]["MaskAP"] > 0
    assert figures(run_dir)["refined"]["MaskAP"] == 0
    with pytest.raises(SystemExit):
        score_toy(place, toy_run, labelme_root, tmp_path / "run", "refine.engine=something")


def test_a_callback(place: Path, toy_run: Path, labelme_root: Path, tmp_path: Path) -> None:
    import own_additions

    own_additions.Counting.counted.clear()
    score_toy(place, toy_run, labelme_root, tmp_path / "run", "+callbacks.mine._target_=own_additions.Counting")
    assert sorted(name for name, _ in own_additions.Counting.counted) == ["test/test_0.png", "test/test_1.png"]
    assert all(count > 0 for _, count in own_additions.Counting.counted)


def test_a_figure_of_the_metric(place: Path, toy_run: Path, labelme_root: Path, tmp_path: Path) -> None:
    run_dir = score_toy(place, toy_run, labelme_root, tmp_path / "run", "metric=strict")
    found = figures(run_dir)
    assert set(found["refined"]) == {"BoxAP", "MaskAP", "AP50", "AP75", "IA", "AP90"}
    assert "test/gain/AP90" in (run_dir / "metrics.csv").read_text()


def test_a_task(place: Path, tmp_path: Path) -> None:
    """As a user starts it, with a folder of configurations of their own."""
    environment = os.environ | {"PYTHONPATH": str(place), "WANDB_MODE": "offline"}
    words = ["task=count", "count.least=0.125", "data.root=in", f"hydra.run.dir={tmp_path / 'run'}"]
    command = [sys.executable, str(ROOT / "run.py"), "--config-dir", str(place / "conf"), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "count.txt").read_text() == "0.125"


class LineFormat(Format):
    """A text file per part; each line has an image, a label and the corners of a polygon."""

    name = "lines"
    FILE = "outlines.txt"

    def source(self, root: Path) -> LineSource:
        return LineSource(root)

    def writer(self, folder: Path, label_names: Any, options: WriteOptions) -> LineWriter:
        return LineWriter()


class LineSource:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.parts = [part for part in ("train", "val", "test") if (root / part / LineFormat.FILE).is_file()]

    def read(self, part: str) -> list[Record]:
        found: dict[str, list[Annotation]] = {}
        for line in (self.root / part / LineFormat.FILE).read_text().splitlines():
            image, label, *numbers = line.split("\t")
            corners = np.array(numbers, dtype=np.float64).reshape(-1, 2)
            found.setdefault(image, []).append(Annotation(label, polygons=(corners,)))
        paths = {image: self.root / part / image for image in sorted(found)}
        return [
            Record(f"{part}/{image}", path, lambda path=path: read_image(path), tuple(found[image]))  # type: ignore[misc]
            for image, path in paths.items()
        ]


class LineWriter(Writer):
    def add(self, part: str, image: Path, annotations: Any, size: tuple[int, int], group: str | None = None) -> None:
        with (image.parent / LineFormat.FILE).open("a") as stream:
            for item in annotations:
                numbers = [repr(float(value)) for value in item.polygons[0].ravel()]
                stream.write("\t".join([image.name, item.label, *numbers]) + "\n")

    def finish(self) -> None:
        pass


def test_a_format(labelme_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written by a conversion, read for training, diagnosed, and converted back."""
    monkeypatch.setitem(FORMATS, "lines", LineFormat())
    root = run_task(tmp_path / "to", "task=convert", f"data.root='{labelme_root}'", "convert.to=lines") / "lines"
    mine = ("data.format=lines", f"data.root='{root}'")
    theirs = (f"data.root='{labelme_root}'",)
    small = "data.augmentation.crop_size=null"
    ours, original = (build_data(plainly_composed(*words, small), "fit") for words in (mine, theirs))
    assert ours.val is not None
    assert original.val is not None
    for index in range(2):
        one, other = ours.val[index], original.val[index]
        assert torch.equal(one.image, other.image)
        assert one.instances is not None
        assert other.instances is not None
        assert torch.equal(one.instances.masks(), other.instances.masks())
    doctor = run_task(tmp_path / "doctor", "task=doctor", *mine, "doctor.expected=null")
    assert json.loads((doctor / "doctor.json").read_text())["images"] == 8
    back = run_task(tmp_path / "back", "task=convert", *mine, "convert.to=labelme") / "labelme"
    assert len(list(back.rglob("*.json"))) == 8
