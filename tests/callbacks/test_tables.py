"""Tables of a test are on disk, and in W&B with images whose layers can be shown and hidden."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from kemr_lightning.callbacks.refinement import RefinementCallback
from kemr_lightning.callbacks.tables import TablesCallback
from kemr_lightning.output.wandb_run import RunLogger, finish_run
from tests.callbacks.helpers import FakeModule, eroding, loader, samples, trainer
from tests.helpers import Run, read_run


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def table_of(run: Run, key: str) -> dict[str, Any]:
    """The table that was logged under a key: the artifact as it waits for its upload."""
    name = f"{key}.table.json"
    (entry,) = [e for a in run.artifact("run_table") for e in a.manifest.contents if e.path == name]
    content: dict[str, Any] = json.loads(Path(entry.local_path).read_text())
    return content


@pytest.mark.parametrize("refine", [True, False])
def test_files_without_wandb(tmp_path: Path, refine: bool) -> None:
    items, found = samples(5)
    callbacks = [RefinementCallback(eroding if refine else None), TablesCallback()]
    trainer(tmp_path, callbacks).test(FakeModule(found), loader(items), verbose=False)  # type: ignore[arg-type]
    rows = read(tmp_path / "per_image.csv")
    assert [row["file_name"] for row in rows] == [sample.name for sample in items]
    assert ("initial_found" in rows[0]) == refine
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    annotated = sum(int(row["annotated"]) for row in rows)
    assert annotated == metrics["instances"]
    final = metrics["refined" if refine else "initial"]["IA"]
    assert 100 * sum(int(row["found"]) for row in rows) / annotated == pytest.approx(final)
    curves = read(tmp_path / "precision_recall.csv")
    assert {row["masks"] for row in curves} == ({"initial", "refined"} if refine else {"initial"})
    assert len(curves) == 101 * 10 * (1 + refine)


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """A training of three steps with two validations, then a test of five images, two to be shown."""
    directory = tmp_path_factory.mktemp("logged")
    items, found = samples(5)
    logger = RunLogger(offline=True, project="test", save_dir=directory)
    callbacks = [RefinementCallback(eroding), TablesCallback(images=2, val_images=1)]
    options: dict[str, Any] = {"logger": logger, "max_epochs": 2}
    run = trainer(directory, callbacks, **options)  # type: ignore[arg-type]
    module = FakeModule(found)
    try:
        run.fit(module, loader(items), loader(items))
        run.test(module, loader(items), verbose=False)
    finally:
        finish_run()
    return directory, read_run(directory)


def test_the_table_has_every_image_and_shows_some(logged: tuple[Path, Run]) -> None:
    directory, run = logged
    table = table_of(run, "test/images")
    image, name = table["columns"].index("image"), table["columns"].index("file_name")
    shown = [row[image] is not None for row in table["data"]]
    assert shown == [True, True, False, False, False]
    rows = {row["file_name"]: row for row in read(directory / "per_image.csv")}
    for row in table["data"]:
        for column in ("annotated", "count", "missed", "false", "merged", "split"):
            assert row[table["columns"].index(column)] == int(rows[row[name]][column])
    for row in table["data"][:2]:
        assert set(row[image]["masks"]) == {"ground truth", "initial", "refined"}
        assert set(row[image]["boxes"]) == {"ground truth", "predicted"}


def test_validations_show_images(logged: tuple[Path, Run]) -> None:
    assert logged[1].values("val/images/count") == [1, 1]


def test_curves_are_a_chart(logged: tuple[Path, Run]) -> None:
    table = table_of(logged[1], "test/precision_recall_table")
    assert {row[table["columns"].index("lineKey")] for row in table["data"]} == {
        f"{masks}, IoU {iou}" for masks in ("initial", "refined") for iou in ("0.50", "0.75", "0.85")
    }
