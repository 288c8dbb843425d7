"""Checkpoints, knowledge files and run directories of version 0.1.0 are read and continued; see `tests/fixtures`."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from pycocotools.mask import iou

import kemr_lightning
from kemr_lightning.refinement import Knowledge
from kemr_lightning.sweep.job_records import read_records
from kemr_lightning.sweep.jobs import Job
from kemr_lightning.sweep.jobs import run as run_job
from kemr_lightning.sweep.sweep_table import best_of
from kemr_lightning.training.checkpoint import read_checkpoint
from tests.conftest import run_task

FIXTURE = Path(__file__).parent / "fixtures" / "v0_1_0"
WRITTEN_IN = "/data/lab"

MODEL = (
    *("model.backbone.channels=[8,8,8,8]", "model.backbone.blocks=[1,1,1]", "model.backbone.out_channels=8"),
    *("model.heads.box_width=12", "model.heads.mask_width=8", "model.heads.mask_convs=1", "+model.heads.box_size=5"),
    *("model.heads.fine_channels=8", "model.heads.fine_width=4", "+model.heads.mask_size=14"),
)


def content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A copy of the runs whose files name the place they lie in."""
    place = tmp_path / "lab"
    shutil.copytree(FIXTURE, place)
    for path in place.rglob("*"):
        if path.suffix in (".json", ".yaml"):
            path.write_text(path.read_text(encoding="utf-8").replace(WRITTEN_IN, str(place)), encoding="utf-8")
    return place


def quiet(lab: Path) -> tuple[str, ...]:
    return ("logger=csv", "callbacks.figures=null", f"data.root='{lab / 'folder'}'")


def test_a_test_gives_the_figures_it_gave(lab: Path, tmp_path: Path) -> None:
    run = run_task(tmp_path / "new", "task=test", f"ckpt='{lab / 'run/checkpoints/best.ckpt'}'", *quiet(lab))
    new, old = content(run / "metrics.json"), content(lab / "test" / "metrics.json")
    assert (new["images"], new["instances"]) == (old["images"], old["instances"])
    # Another version of PyTorch may round a probability of 0.5 the other way; one pixel can move an AP by two points.
    alike = content(lab / "test" / "timing.json")["machine"]["torch"] == torch.__version__
    for group in ("initial", "refined"):
        assert new[group] == pytest.approx(old[group], abs=0.01 if alike else 3.0)
    for name in ("predictions_initial.json", "predictions.json"):
        pairs = list(zip(content(run / name), content(lab / "test" / name), strict=True))
        assert pairs
        for here, there in pairs:
            assert (here["image_id"], here["category_id"]) == (there["image_id"], there["category_id"])
            assert here["bbox"] == pytest.approx(there["bbox"], abs=0.05)
            assert here["score"] == pytest.approx(there["score"], abs=1e-3)
            assert float(iou([here["segmentation"]], [there["segmentation"]], [0])[0, 0]) > 0.98


def test_a_checkpoint_finds_the_same_chromosomes(lab: Path) -> None:
    model = kemr_lightning.load(lab / "run" / "checkpoints" / "best.ckpt", refine=None)
    (image,) = (lab / "folder" / "test").glob("*.png")
    found = model.predict(image)
    old = [item for item in content(lab / "test" / "predictions_initial.json") if item["score"] >= 0.5]
    new = found[found.scores >= 0.5]
    assert len(new) == len(old)
    for box, item in zip(new.boxes.tolist(), old, strict=True):
        x, y, width, height = item["bbox"]
        assert box == pytest.approx([x, y, x + width, y + height], abs=0.05)


def test_knowledge_with_experiences_refines(lab: Path) -> None:
    knowledge = Knowledge.load(lab / "knowledge.safetensors")
    assert knowledge.experiences is not None
    assert len(knowledge.experiences.gain) > 20
    (image,) = (lab / "folder" / "test").glob("*.png")
    model = kemr_lightning.load(lab / "run/checkpoints/best.ckpt", knowledge=lab / "knowledge.safetensors")
    initial = kemr_lightning.load(lab / "run/checkpoints/best.ckpt", refine=None).predict(image)
    refined = model.predict(image)
    assert torch.equal(refined.scores, initial.scores)
    before = initial.masks()
    changed = refined.masks() != before
    assert changed.any()
    assert changed.sum() < 0.5 * before.sum()  # outlines move, masks stay where they are


def test_a_training_goes_on(lab: Path, tmp_path: Path) -> None:
    best = lab / "run" / "checkpoints" / "best.ckpt"
    step = read_checkpoint(best)["global_step"]
    run = run_task(
        tmp_path / "new",
        *("experiment=kemr_tiny", *MODEL, "data.augmentation.crop_size=[96,96]", *quiet(lab)),
        *(f"ckpt='{best}'", f"trainer.max_steps={step + 2}", "trainer.val_check_interval=2", "callbacks.tables=null"),
    )
    new = read_checkpoint(run / "checkpoints" / "last.ckpt")
    assert new["global_step"] == step + 2
    assert new["optimizer_states"]
    old = read_checkpoint(best)["state_dict"]
    moved = max(float((new["state_dict"][name] - value).abs().max()) for name, value in old.items() if value.ndim)
    assert 0 < moved < 0.2  # two small steps from where it was, not a new start
    assert set(old) == set(new["state_dict"])


def test_the_records_of_a_sweep_are_read(lab: Path) -> None:
    records = read_records(lab / "sweep")
    assert [item.varied for item in records] == [{"refine.sigma_alpha": "2"}, {"refine.sigma_alpha": "3"}]
    assert [round(item.metrics["refined"]["MaskAP"] or 0, 2) for item in records] == [83.86, 86.51]
    best = best_of(records)
    assert best is not None
    assert best.number == 1


def test_done_jobs_of_a_sweep_are_skipped(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    shutil.copytree(FIXTURE / "sweep", sweep)  # as written: the words of the command are part of a job's identity
    for record in read_records(sweep):
        again = Job(record.number, sweep, record.overrides, record.varied)
        checkpoint = FIXTURE / "run" / "checkpoints" / "best.ckpt"
        config = OmegaConf.create({"paths": {"run_dir": str(sweep / record.directory)}, "ckpt": str(checkpoint)})
        assert run_job(again, config, lambda _: pytest.fail("the job was run again")) == record.score
    with (sweep / "sweep.csv").open(newline="") as stream:
        assert [row["status"] for row in csv.DictReader(stream)] == ["done", "done"]


def test_runs_are_compared(lab: Path, tmp_path: Path) -> None:
    runs = f"runs=['{lab / 'run'}','{lab / 'test'}']"
    run = run_task(tmp_path / "new", "task=compare", runs, "logger=csv", "compare.resamples=20")
    rows = content(run / "comparison.json")["systems"]
    assert len(rows) == 3  # two KEMR-Nets, and the cascade that both are before refinement
    old = content(lab / "run" / "metrics.json")
    assert rows[-1]["figures"]["MaskAP"] == pytest.approx(old["refined"]["MaskAP"])
    assert "differs" not in (run / "comparison.md").read_text()


def test_finished_images_of_a_prediction_are_not_predicted_again(lab: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (image,) = (lab / "folder" / "test").glob("*.png")
    state = content(lab / "predict" / "state" / f"{image.stem}.json")
    for path, (_, changed) in zip([image, image.with_suffix(".json")], state["version"], strict=True):
        os.utime(path, ns=(int(changed), int(changed)))
    written = lab / "predict" / "labelme" / f"{image.stem}.json"
    before = written.read_bytes()
    run_task(
        lab / "predict",
        *("task=predict", f"ckpt='{lab / 'run/checkpoints/best.ckpt'}'", f"data.root='{image.parent}'"),
    )
    assert "1 of 1 images done (1 were finished before)" in caplog.text
    assert written.read_bytes() == before
    assert (lab / "predict" / "report.html").is_file()
