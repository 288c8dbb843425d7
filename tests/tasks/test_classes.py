"""Models of several classes from training to corrected annotations: labels keep their names all the way."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from kemr_lightning.data.labelme import read_labelme
from tests.conftest import SMALL, hash_seed, run_task, write_image

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


def test_predicted_labels_have_names_and_train_again(root: Path, trained_on_classes: Path, tmp_path: Path) -> None:
    model = f"'{checkpoint(trained_on_classes)}'"
    # A model of two steps is sure of nothing.
    overrides = ("task=predict", f"ckpt={model}", "predict.score=0.0", "predict.crops=false", "logger=csv")
    run = run_task(tmp_path / "run", *overrides, f"data.root='{root / 'train'}'")
    labels = [found.label for path in (run / "labelme").glob("*.json") for found in read_labelme(path).file.annotations]
    assert set(labels) <= set(NAMES)
    results = json.loads((run / "predictions.json").read_text())
    assert len(labels) == len(results) > 0
    assert [labels.count(name) for name in NAMES] == [
        sum(result["category_id"] == number for result in results) for number in (1, 2, 3)
    ]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert '"labels":["2","10","X"]' in page
    # Corrected files without one of the classes go on with all three, so that every weight is taken over.
    for path in (run / "labelme").glob("*.json"):
        source = json.loads((root / "train" / path.name).read_text())
        path.write_text(json.dumps({**json.loads(path.read_text()), "shapes": source["shapes"]}))
        relabel(path, ["2", "X"])
    again = run_task(
        tmp_path / "again",
        *("experiment=kemr_tiny", f"data.root='{run / 'labelme'}'", "data.label_map=null", f"init={model}", *SMALL),
    )
    hyper = torch.load(checkpoint(again), weights_only=True)["hyper_parameters"]
    assert hyper["label_names"] == NAMES
    with (again / "metrics_per_class.csv").open(newline="") as stream:
        annotated = {row["class"]: row["annotated"] for row in csv.DictReader(stream)}
    assert annotated.get("10", "0") == "0"
