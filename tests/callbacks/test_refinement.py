"""What the refinement callback logs, when, and what it leaves in the run directory."""

from __future__ import annotations

import contextlib
import io
import json
import math
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kemr_lightning.callbacks.refinement import RefinementCallback, find_refinement, refinement_of
from kemr_lightning.callbacks.timing import TimingCallback
from kemr_lightning.metrics.segmentation import HEADLINE, InstanceSegmentationMetric
from kemr_lightning.output.run_summary import results_table
from tests.callbacks.helpers import FakeModule, eroding, loader, samples, trainer


def pycocotools_figures(directory: Path, predictions: str) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(directory / "ground_truth.json"))
        found = truth.loadRes(str(directory / predictions))
        stats = {}
        for kind in ("bbox", "segm"):
            evaluation = COCOeval(truth, found, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            stats[kind] = evaluation.stats
    return {
        "BoxAP": 100 * stats["bbox"][0],
        "MaskAP": 100 * stats["segm"][0],
        "AP50": 100 * stats["segm"][1],
        "AP75": 100 * stats["segm"][2],
    }


def test_files_of_a_test_give_pycocotools_the_figures_in_metrics_json(tmp_path: Path) -> None:
    items, found = samples()
    callback = RefinementCallback(eroding, directory=tmp_path / "run", label_names=["A", "B", "C"])
    trainer(tmp_path, [callback]).test(FakeModule(found), loader(items), verbose=False)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert list(metrics) == ["images", "instances", "initial", "refined"]
    assert (metrics["images"], metrics["instances"]) == (4, 20)
    for group, name in (("initial", "predictions_initial.json"), ("refined", "predictions.json")):
        assert list(metrics[group]) == list(HEADLINE)
        for figure, value in pycocotools_figures(tmp_path / "run", name).items():
            assert metrics[group][figure] == pytest.approx(value, abs=1e-9)
    truth = json.loads((tmp_path / "run" / "ground_truth.json").read_text())
    assert [c["name"] for c in truth["categories"]] == ["A", "B", "C"]
    assert truth["images"][0] == {"id": 1, "file_name": "test/1.png", "width": 64, "height": 48}
    initial = json.loads((tmp_path / "run" / "predictions_initial.json").read_text())
    final = json.loads((tmp_path / "run" / "predictions.json").read_text())
    assert [r["bbox"] for r in initial] == [r["bbox"] for r in final]
    assert [r["segmentation"] for r in initial] != [r["segmentation"] for r in final]
    x0, y0, x1, y1 = found[1].boxes[0].double().tolist()
    assert initial[0]["bbox"] == [x0, y0, x1 - x0, y1 - y0]
    assert initial[0]["score"] == float(found[1].scores[0])
    extended = json.loads((tmp_path / "run" / "metrics_extended.json").read_text())
    assert extended["refined"]["mask"]["AP"] == metrics["refined"]["MaskAP"]


def test_without_a_refiner_initial_is_final(tmp_path: Path) -> None:
    items, found = samples()
    run = trainer(tmp_path, [RefinementCallback(None)])
    run.test(FakeModule(found), loader(items), verbose=False)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "refined" not in metrics
    assert (tmp_path / "predictions.json").read_text() == (tmp_path / "predictions_initial.json").read_text()
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    assert set(logged) == {f"test/{n}" for n in HEADLINE} | {f"test/initial/{n}" for n in HEADLINE}
    assert logged["test/MaskAP"] == logged["test/initial/MaskAP"]


@pytest.mark.parametrize("monitor", ["val/refined/MaskAP", "val/MaskAP", "val/gain/IA"])
def test_validation_logs_early_enough_to_be_monitored(tmp_path: Path, monitor: str) -> None:
    items, found = samples()
    checkpoint = ModelCheckpoint(
        tmp_path, "best", monitor=monitor, mode="max", auto_insert_metric_name=False, save_weights_only=True
    )
    callback = RefinementCallback(eroding)
    run = trainer(tmp_path, [checkpoint, callback], enable_checkpointing=True)
    run.fit(FakeModule(found), loader(items), loader(items))
    assert (tmp_path / "best.ckpt").exists()
    logged = {name: float(value) for name, value in run.callback_metrics.items()}
    expected = InstanceSegmentationMetric()
    for sample in items:
        assert sample.instances is not None
        expected.update([eroding(sample.image, found[sample.image_id])], [sample.instances], [sample.image_id])
    for name, value in expected.compute().items():
        assert logged[f"val/refined/{name}"] == pytest.approx(float(value), abs=1e-4)
        assert logged[f"val/{name}"] == logged[f"val/refined/{name}"]
        gain = logged[f"val/refined/{name}"] - logged[f"val/initial/{name}"]
        assert logged[f"val/gain/{name}"] == pytest.approx(gain, abs=1e-4)
    assert checkpoint.best_model_score is not None
    assert math.isclose(float(checkpoint.best_model_score), logged[monitor], abs_tol=1e-4)
    assert not (tmp_path / "metrics.json").exists()


def test_images_without_annotations_give_no_figures(tmp_path: Path) -> None:
    items, found = samples(2)
    for sample in items:
        sample.instances = None
    trainer(tmp_path, [RefinementCallback(None)]).test(FakeModule(found), loader(items), verbose=False)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["initial"] == dict.fromkeys(HEADLINE)
    assert metrics["instances"] == 0


class WithCounts(InstanceSegmentationMetric):
    """A metric from outside the package that adds a figure."""

    def compute(self) -> dict[str, torch.Tensor]:
        found = sum(len(item.predictions) for item in self.records())
        return super().compute() | {"Found": torch.tensor(float(found))}


def test_a_figure_that_a_metric_adds_is_logged_monitored_and_written_beside_the_others(tmp_path: Path) -> None:
    items, found = samples()
    count = sum(len(found[item.image_id]) for item in items)
    checkpoint = ModelCheckpoint(tmp_path, "best", monitor="val/Found", save_weights_only=True)
    callbacks = [checkpoint, RefinementCallback(eroding, WithCounts(ia_score=0.3))]
    run = trainer(tmp_path, callbacks, enable_checkpointing=True)
    module = FakeModule(found)
    run.fit(module, loader(items), loader(items))
    assert checkpoint.best_model_score == count
    for name, value in (("initial/Found", count), ("refined/Found", count), ("gain/Found", 0), ("Found", count)):
        assert run.callback_metrics[f"val/{name}"] == value
    run.test(module, loader(items), verbose=False)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for group in ("initial", "refined"):
        assert list(metrics[group]) == [*HEADLINE, "Found"]
        assert metrics[group]["Found"] == count
    assert list(results_table(metrics).columns[0].cells) == [*HEADLINE, "Found"]
    extended = json.loads((tmp_path / "metrics_extended.json").read_text())
    assert extended["initial"]["thresholds"]["ia_score"] == 0.3


def test_the_last_batch_is_there_for_later_callbacks(tmp_path: Path) -> None:
    items, found = samples(3)
    callback = RefinementCallback(eroding)
    trainer(tmp_path, [callback]).test(FakeModule(found), loader(items), verbose=False)
    ((sample, prediction),) = callback.latest  # three images in batches of two
    assert (sample.image_id, prediction.initial) == (3, found[3])
    assert prediction.refined is not None
    assert prediction.refined.patches is not None
    assert not any(patch.values[:, 0].any() for patch in prediction.refined.patches)
    assert len(callback.seconds) == 3
    assert callback.seconds_per_image == pytest.approx(sum(callback.seconds) / 3)


def test_the_callback_is_found_among_others(tmp_path: Path) -> None:
    refinement = RefinementCallback(eroding)
    made = trainer(tmp_path, [TimingCallback(), refinement])
    assert find_refinement(made) is refinement
    assert refinement_of(made) is refinement
    assert find_refinement(trainer(tmp_path, [])) is None
