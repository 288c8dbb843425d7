"""Models of several classes from training to corrected annotations: labels keep their names all the way."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.data.labelme import read_labelme
from kemr_lightning.tasks import predict as predict_module
from tests.conftest import SMALL, hash_seed, run_task, write_image
from tests.prediction.helpers import BrightModule

NAMES = ["2", "10", "X"]


def relabel(path: Path, names: list[str]) -> None:
    """Give a file's shapes the names in turn."""
    document = json.loads(path.read_text())
    for number, shape in enumerate(document["shapes"]):
        shape["label"] = names[number % len(names)]
    path.write_text(json.dumps(document))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    for part, count in (("train", 2), ("val", 1), ("test", 2)):
        for index in range(count):
            write_image(folder / part, f"{part}_{index}", seed=hash_seed(part, index))
            relabel(folder / part / f"{part}_{index}.json", NAMES)
    return folder


@pytest.fixture(scope="module")
def trained_on_classes(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "train"
    return run_task(run, "experiment=kemr_tiny", f"data.root='{root}'", "data.label_map=null", *SMALL)


def checkpoint(run: Path) -> Path:
    return run / "checkpoints" / "best.ckpt"


def test_figures_of_each_class(trained_on_classes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert torch.load(checkpoint(trained_on_classes), weights_only=True)["hyper_parameters"]["label_names"] == NAMES
    truth = json.loads((trained_on_classes / "ground_truth.json").read_text())
    assert [category["name"] for category in truth["categories"]] == NAMES
    extended = json.loads((trained_on_classes / "metrics_extended.json").read_text())
    for layer in ("initial", "refined"):
        counts = {name: figures["annotated"] for name, figures in extended[layer]["per_class"].items()}
        assert counts == {"2": 4, "10": 2, "X": 2}
        assert all(figures["MaskAP"] is not None for figures in extended[layer]["per_class"].values())
    with (trained_on_classes / "metrics_per_class.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["class"], row["masks"]) for row in rows] == [(n, m) for n in NAMES for m in ("initial", "refined")]
    assert [row["annotated"] for row in rows[::2]] == ["4", "2", "2"]


def test_the_checkpoint_knows_its_classes(
    root: Path, trained_on_classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ("task=test", f"ckpt='{checkpoint(trained_on_classes)}'", "logger=csv", "callbacks.figures=null")
    run_task(tmp_path / "run", *overrides, f"data.root='{root}'")
    for name in ("metrics.json", "ground_truth.json", "predictions.json", "metrics_per_class.csv"):
        assert (tmp_path / "run" / name).read_text() == (trained_on_classes / name).read_text()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines if len(line) == 7 and line[0] in NAMES] == ["4", "2", "2"]


class NamedModule(BrightModule):
    """Finds bright parts and calls them by each class in turn."""

    label_names = NAMES

    def find(self, batch: list[Sample], factor: float | None = None) -> list[Instances]:
        found = super().find(batch, factor)
        for instances in found:
            instances.labels = torch.arange(len(instances)) % len(NAMES) + 1
        return found


def test_predicted_labels_have_names(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_module, "load_module", lambda _: NamedModule())
    monkeypatch.setattr(predict_module, "build_refiner", lambda *_: None)
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    overrides = ("task=predict", f"ckpt='{tmp_path / 'best.ckpt'}'", f"data.root='{root / 'train'}'", "logger=csv")
    run = run_task(tmp_path / "run", *overrides)
    results = [r for r in json.loads((run / "predictions.json").read_text()) if r["score"] >= 0.5]
    wanted = [NAMES[result["category_id"] - 1] for result in results]
    assert len(set(wanted)) == 3
    files = sorted((run / "labelme").glob("*.json"))
    assert [found.label for path in files for found in read_labelme(path).file.annotations] == wanted
    with (run / "crops" / "index.csv").open(newline="") as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == wanted
    assert '"labels":["2","10","X"]' in (run / "report.html").read_text(encoding="utf-8")
    # The annotations keep their classes too: what is found under another name is said to be.
    with (run / "summary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["annotated"] for row in rows] == ["4", "4"]
    assert sum(int(row["mislabelled"]) for row in rows) > 0


def test_corrected_files_without_one_of_the_classes(root: Path, trained_on_classes: Path, tmp_path: Path) -> None:
    """They continue with all three, so that every weight is taken over."""
    for index in range(2):
        write_image(tmp_path / "labelme", f"image_{index}", seed=index)
        relabel(tmp_path / "labelme" / f"image_{index}.json", ["2", "X"])
    overrides = ("experiment=kemr_tiny", f"data.root='{tmp_path / 'labelme'}'", "data.label_map=null", *SMALL)
    again = run_task(tmp_path / "again", *overrides, f"init='{checkpoint(trained_on_classes)}'")
    assert torch.load(checkpoint(again), weights_only=True)["hyper_parameters"]["label_names"] == NAMES
    with (again / "metrics_per_class.csv").open(newline="") as stream:
        annotated = {row["class"]: row["annotated"] for row in csv.DictReader(stream)}
    assert annotated.get("10", "0") == "0"
    assert annotated["2"] == annotated["X"] == "2"
