"""Training from the configuration: every tiny experiment runs, files are there, runs are resumed, faults are told."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.core.overrides import shell_word
from kemr_lightning.data.synthetic import SyntheticDataModule
from kemr_lightning.tasks.train import fit
from kemr_lightning.training.checkpoint import read_checkpoint
from kemr_lightning.training.module import DivergedError, SegmentationModule
from tests.conftest import CONF, SMALL, compose, run_task, write_image
from tests.helpers import read_run

TINY = sorted(path.stem for path in (CONF / "experiment").glob("*_tiny.yaml") if path.stem != "kemr_tiny")


def test_run_directory(trained: Path) -> None:
    for name in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (trained / name).is_file()
    metrics = json.loads((trained / "metrics.json").read_text())
    assert (metrics["images"], metrics["instances"]) == (2, 8)
    for group in ("initial", "refined"):
        assert set(metrics[group]) == {"BoxAP", "MaskAP", "AP50", "AP75", "IA"}
    for name in ("predictions.json", "predictions_initial.json", "ground_truth.json"):
        json.loads((trained / name).read_text())
    config = OmegaConf.load(trained / "config.yaml")
    assert config.trainer.max_steps == 2
    assert "${" not in (trained / "config.yaml").read_text()


def test_checkpoint_carries_the_model(trained: Path) -> None:
    hyper = read_checkpoint(trained / "checkpoints" / "best.ckpt")["hyper_parameters"]
    assert hyper["label_names"] == ["chromosome"]
    assert hyper["input_size"] is None
    assert hyper["intensity"]
    assert hyper["model"]["num_classes"] == 1


@pytest.mark.parametrize("experiment", TINY)
def test_tiny_experiments_run(experiment: str, labelme_root: Path, tmp_path: Path) -> None:
    limits = ("trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "trainer.max_steps=1", "data.batch_size=1")
    run_task(tmp_path / "run", f"experiment={experiment}", f"data.root='{labelme_root}'", *SMALL, *limits)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["images"] == 1
    assert "refined" not in metrics


def test_without_validation_the_current_weights_are_tested(labelme_root: Path, tmp_path: Path) -> None:
    run_task(
        tmp_path / "run",
        "experiment=mask_rcnn_tiny",
        f"data.root='{labelme_root}'",
        *SMALL,
        "trainer.max_steps=1",
        "trainer.limit_val_batches=0",
        "trainer.limit_test_batches=1",
    )
    assert (tmp_path / "run" / "metrics.json").is_file()
    assert not (tmp_path / "run" / "checkpoints" / "best.ckpt").exists()


def test_wandb_has_everything_and_is_finished(labelme_root: Path, tmp_path: Path) -> None:
    import wandb

    directory = tmp_path / "run"
    overrides = ("trainer.max_steps=2", "data.augmentation.crop_size=[96,96]", "logger.wandb.log_model=true")
    run_task(directory, "experiment=kemr_tiny", f"data.root='{labelme_root}'", *overrides)
    assert wandb.run is None
    assert list(directory.glob("figures/**/*.png"))
    run = read_run(directory)
    assert (run.exit_code, run.job_type, run.name) == (0, "train", "kemr_tiny")
    assert run.config["trainer"]["max_steps"] == 2
    for key in ("train/loss", "lr-AdamW"):
        assert len(run.values(key)) == 2
    metrics = json.loads((directory / "metrics.json").read_text())
    for name in ("BoxAP", "MaskAP", "AP50", "AP75", "IA"):
        before, after = metrics["initial"][name], metrics["refined"][name]
        assert run.summary[f"test/initial/{name}"] == pytest.approx(before, abs=1e-4)
        assert run.summary[f"test/refined/{name}"] == pytest.approx(after, abs=1e-4)
        assert run.summary[f"test/gain/{name}"] == pytest.approx(after - before, abs=1e-4)
        assert f"val/gain/{name}" in run.summary
    for key in ("test/images", "test/precision_recall_table", "val/images", "test/outlines", "test/curves"):
        assert f"{key}/_type" in run.summary
    assert {artifact.type for artifact in run.artifacts} >= {"knowledge", "model", "run_table"}


def test_resume_continues_from_the_step(trained: Path, labelme_root: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "kemr_tiny" / "train" / "before")
    run_dir = tmp_path / "run"
    root = f"data.root='{labelme_root}'"
    options = ("trainer.max_steps=3", "trainer.log_every_n_steps=1", "ckpt=last")
    run_task(run_dir, "experiment=kemr_tiny", root, *SMALL, *options)
    with (run_dir / "metrics.csv").open() as file:
        trained_steps = [row for row in csv.DictReader(file) if row["train/loss"]]
    assert len(trained_steps) == 1
    assert read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["global_step"] == 3


def test_init_starts_anew_from_weights(trained: Path, labelme_root: Path, tmp_path: Path) -> None:
    file = trained / "checkpoints" / "best.ckpt"
    run_dir = tmp_path / "run"
    overrides = ("optimizer.lr=0", "optimizer.weight_decay=0", "callbacks.ema=null", "trainer.max_steps=1")
    run_task(run_dir, "experiment=kemr_tiny", f"data.root='{labelme_root}'", *SMALL, *overrides, f"init='{file}'")
    before = read_checkpoint(file)["state_dict"]
    content = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")
    assert content["global_step"] == 1
    parameters = [name for name in before if name.endswith("weight")]
    assert parameters
    assert all(torch.equal(before[name], content["state_dict"][name]) for name in parameters)


def pycocotools_figures(run_dir: Path, predictions: str) -> dict[str, float]:
    """BoxAP, MaskAP, AP50, AP75 by pycocotools on the files that a run has written."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(run_dir / "ground_truth.json"))
        found = truth.loadRes(str(run_dir / predictions))
        figures: dict[str, Any] = {}
        for kind in ("bbox", "segm"):
            evaluation = COCOeval(truth, found, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            figures[kind] = evaluation.stats * 100
    box, mask = figures["bbox"], figures["segm"]
    return {"BoxAP": box[0], "MaskAP": mask[0], "AP50": mask[1], "AP75": mask[2]}


def test_files_give_the_metrics(labelme_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With predictions that are annotations gone wrong in several ways, so that no figure is 0 or 100."""

    def wrong(self: SegmentationModule, batch: list[Sample], batch_idx: int) -> list[Instances]:
        found = []
        for sample in batch:
            truth = sample.instances
            assert truth is not None
            assert truth.patches is not None
            patches = []
            for index, patch in enumerate(truth.patches):
                values = 0.3 + 0.4 * patch.values.float()
                values[: 2 * index + 2] = 0.45
                patches.append(Patch(patch.x0, patch.y0, values))
            boxes = truth.boxes + torch.linspace(0, 6, len(truth))[:, None]
            scores = torch.linspace(0.95, 0.3, len(truth))
            found.append(Instances(truth.image_size, boxes, scores, truth.labels, patches))
        return found

    monkeypatch.setattr(SegmentationModule, "predict_step", wrong)
    root = f"data.root='{labelme_root}'"
    run_dir = run_task(tmp_path / "run", "experiment=kemr_tiny", root, *SMALL, "trainer.max_steps=1")
    metrics = json.loads((run_dir / "metrics.json").read_text())
    for group, file in (("initial", "predictions_initial.json"), ("refined", "predictions.json")):
        expected = pycocotools_figures(run_dir, file)
        assert 0 < expected["MaskAP"] < 100
        for name, value in expected.items():
            assert metrics[group][name] == pytest.approx(value, abs=1e-9)
    assert metrics["initial"]["MaskAP"] != metrics["refined"]["MaskAP"]


def told(capsys: pytest.CaptureFixture[str], run_dir: Path, *overrides: str) -> str:
    """The one line that a run ends with before any training."""
    with pytest.raises(SystemExit) as caught:
        run_task(run_dir, "experiment=kemr_tiny", *SMALL, *overrides)
    assert caught.value.code == 2
    assert not (run_dir / "checkpoints").exists()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert isinstance(line, str)
    return line


def test_no_root(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "data.root=DIR" in told(capsys, tmp_path / "run")


def test_folder_without_annotations(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_image(tmp_path / "images", "a", 1, annotated=False)
    line = told(capsys, tmp_path / "run", f"data.root={tmp_path / 'images'}")
    assert str(tmp_path / "images") in line
    assert "Labelme" in line


def test_broken_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for index in range(3):
        write_image(tmp_path / "images" / "train", f"image_{index}", index)
    broken = tmp_path / "images" / "train" / "image_1.json"
    broken.write_text(broken.read_text()[:50])
    assert "image_1.json" in told(capsys, tmp_path / "run", f"data.root={tmp_path / 'images'}")


def test_missing_checkpoint(capsys: pytest.CaptureFixture[str], labelme_root: Path, tmp_path: Path) -> None:
    root = f"data.root='{labelme_root}'"
    assert "none.ckpt" in told(capsys, tmp_path / "a", root, "ckpt=none.ckpt")
    assert "none.ckpt" in told(capsys, tmp_path / "b", root, "init=none.ckpt")
    assert "Train first" in told(capsys, tmp_path / "c", root, "ckpt=last")


def test_resume_and_init_exclude_each_other(
    capsys: pytest.CaptureFixture[str], trained: Path, labelme_root: Path, tmp_path: Path
) -> None:
    file = trained / "checkpoints" / "best.ckpt"
    line = told(capsys, tmp_path / "a", f"data.root='{labelme_root}'", f"ckpt='{file}'", f"init='{file}'")
    assert "both" in line


def test_resume_needs_the_same_classes(
    capsys: pytest.CaptureFixture[str], trained: Path, labelme_root: Path, tmp_path: Path
) -> None:
    file = trained / "checkpoints" / "last.ckpt"
    line = told(
        capsys,
        tmp_path / "a",
        f"data.root='{labelme_root}'",
        f"ckpt='{file}'",
        "data.label_map={chr: rod}",
        "resume_anyway=true",
    )
    assert "['chromosome']" in line
    assert "['rod']" in line


def test_parameter_out_of_range(capsys: pytest.CaptureFixture[str], labelme_root: Path, tmp_path: Path) -> None:
    assert "sigma_alpha" in told(capsys, tmp_path / "a", f"data.root='{labelme_root}'", "refine.sigma_alpha=-1")


@pytest.mark.parametrize("last", ["", "a run, i=1 (new)/last.ckpt"])
def test_an_interrupted_training_says_how_to_go_on(last: str, caplog: pytest.LogCaptureFixture) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    callback = SimpleNamespace(last_model_path=last)
    trainer: Any = SimpleNamespace(fit=interrupted, checkpoint_callback=callback, global_step=7)
    module: Any = None
    data = SyntheticDataModule()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, module, data, None)
    how = f"The same command with {shell_word('ckpt', last)} resumes it" if last else "No checkpoint was saved yet"
    assert caplog.messages == [f"interrupted at step 7. {how}"]


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (SettingError("epoch_samples", 1, "is too few", "Give more"), "data.epoch_samples=1 is too few. Give more"),
        (SettingError("views", 9, "is not possible", "Use 1"), "views=9 is not possible. Use 1"),
        (
            DivergedError("Lower the learning rate"),
            "Lower the learning rate (optimizer.lr, scheduler.warmup_fraction, callbacks.finite_loss.skip)",
        ),
    ],
)
def test_errors_of_a_training_name_the_keys_that_they_belong_to(raised: UserError, line: str) -> None:
    def failing(*_: object, **__: object) -> None:
        raise raised

    trainer: Any = SimpleNamespace(fit=failing, checkpoint_callback=None, global_step=0)
    module: Any = None
    with pytest.raises(UserError) as caught:
        fit(trainer, module, SyntheticDataModule(), None)
    assert str(caught.value) == line


def test_the_keys_of_a_diverged_training_are_there() -> None:
    config = compose("experiment=kemr_tiny")
    assert "lr" in config.optimizer
    assert "warmup_fraction" in config.scheduler
    assert "skip" in config.callbacks.finite_loss
