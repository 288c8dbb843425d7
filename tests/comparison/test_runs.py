"""Run directories are read whole, or refused with what is wrong with them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kemr_lightning.comparison.runs import is_finished, read_config, read_image_records, read_run
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.run_directory import BEST, CONFIG, GROUND_TRUTH, METRICS, PREDICTIONS
from kemr_lightning.metrics.segmentation import headline
from kemr_lightning.output.result_files import ResultFilesWriter
from tests.comparison.helpers import Fixed, checkpoint, config, made_run, noisy_records, nothing, write_run


@pytest.mark.parametrize("kind", ["mask_rcnn", "cascade", "blendmask"])
def test_a_training_is_read(tmp_path: Path, kind: str) -> None:
    times = {"training": {"seconds": 60.0}, "test": {"seconds_per_image": 0.5}}
    initial, refined = noisy_records(0), noisy_records(1, quality=0.8)
    path = write_run(tmp_path / "run", initial, refined, kind, times, seed=3)
    assert is_finished(path)
    run = read_run(path)
    assert run.kind == kind
    assert run.refined
    assert run.training.seed == 3
    assert run.timing == times
    assert [len(item.predictions) for item in run.final] == [len(item.predictions) for item in refined]
    assert run.checkpoint == path / BEST
    weights = checkpoint(kind)["state_dict"]
    assert all(value.equal(weights[name]) for name, value in run.module.state_dict().items())
    buffers = sum(value.numel() for _, value in run.module.named_buffers())
    assert run.parameters == sum(value.numel() for value in weights.values()) - buffers


def test_a_detector_says_its_kind_itself() -> None:
    assert made_run([], detector=Fixed("solo")).kind == "solo"


def test_a_test_has_the_settings_of_the_training_whose_checkpoint_it_tested(tmp_path: Path) -> None:
    times = {"training": {"seconds": 9.0}, "test": {"images": 1}}
    trained = write_run(tmp_path / "trained", noisy_records(0), kind="mask_rcnn", timing=times, seed=5)
    tested = write_run(tmp_path / "tested", noisy_records(0), timing={"test": {"images": 2}})
    shutil.rmtree((tested / BEST).parent)
    settings = config() | {"task": {"name": "test"}, "ckpt": str(trained / BEST)}
    OmegaConf.save(OmegaConf.create(settings), tested / CONFIG)
    assert not is_finished(tested)
    run = read_run(tested)
    assert (run.config.seed, run.training.seed) == (0, 5)
    assert run.timing == {"training": {"seconds": 9.0}, "test": {"images": 2}}
    (trained / CONFIG).unlink()
    alone = read_run(tested)
    assert alone.training is alone.config
    assert alone.timing == {"test": {"images": 2}}


def test_views_are_those_of_the_test(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", noisy_records(0), kind="mask_rcnn")
    assert read_run(path).module.views == 1
    OmegaConf.save(OmegaConf.create(config() | {"views": 2}), path / CONFIG)
    assert read_run(path).module.views == 2


def test_the_data_may_lie_elsewhere() -> None:
    run = made_run([])
    moved = run.with_data_root("there")
    assert (moved.config.data.root, moved.training.data.root) == ("there", "there")
    assert run.config.data.root == "somewhere"
    del run.config.data["root"]
    assert "root" not in run.with_data_root("there").config.data


def test_a_configuration_of_an_earlier_version_is_read_in_todays_form(tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(
        "data:\n  root: ???\n"
        "scheduler: {_target_: kemr_lightning.schedule.multistep}\n"
        "callbacks: {refinement: {refiner: null, metric: {threshold: 0.4}}}\n"
    )
    found = read_config(tmp_path)
    assert found.scheduler._target_ == "kemr_lightning.training.schedule.multistep"
    assert found.metric == {"threshold": 0.4}
    assert found.callbacks.refinement == {}
    assert OmegaConf.is_missing(found.data, "root")


def test_what_is_wrong_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^runs=.*none is not a directory"):
        read_run(tmp_path / "none")
    path = write_run(tmp_path / "run", noisy_records(0))
    metrics = json.loads((path / METRICS).read_text())
    metrics["initial"]["MaskAP"] += 1
    (path / METRICS).write_text(json.dumps(metrics))
    with pytest.raises(UserError, match="different tests"):
        read_run(path)
    metrics["initial"]["MaskAP"] -= 1
    (path / METRICS).write_text(json.dumps(metrics))
    with pytest.raises(UserError, match=r"best\.ckpt is empty"):
        read_run(path)
    shutil.rmtree((path / BEST).parent)
    with pytest.raises(UserError, match=r"best.ckpt does not exist"):
        read_run(path)
    (path / CONFIG).write_text("a: [")
    with pytest.raises(UserError, match="cannot be read"):
        read_run(path)
    (path / CONFIG).write_text("a: 1")
    with pytest.raises(UserError, match="not the configuration"):
        read_run(path)
    (path / CONFIG).unlink()
    with pytest.raises(UserError, match=r"config.yaml does not exist"):
        read_run(path)


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    initial, refined = noisy_records(0), noisy_records(1, quality=0.7)
    initial.append(nothing(image_id=len(initial) + 1))
    refined.append(nothing(image_id=len(refined) + 1))
    ResultFilesWriter(tmp_path).write(initial, refined, {})
    for written, read in zip((initial, refined), read_image_records(tmp_path), strict=True):
        assert headline(read) == headline(written)
        for before, after in zip(written, read, strict=True):
            assert (before.image_id, before.size, before.name, before.truth) == (
                after.image_id,
                after.size,
                after.name,
                after.truth,
            )
            assert [(p.label, p.box, p.score, p.counts) for p in before.predictions] == [
                (p.label, p.box, p.score, p.counts) for p in after.predictions
            ]


def test_records_of_boxes_only(tmp_path: Path) -> None:
    plain = [
        replace(item, masks=False, truth=[replace(entry, counts=None) for entry in item.truth])
        for item in noisy_records(0)
    ]
    ResultFilesWriter(tmp_path).write(plain, None, {})
    read, _ = read_image_records(tmp_path)
    assert headline(read) == pytest.approx(headline(plain), nan_ok=True)
    assert not any(item.masks for item in read if item.truth)


def test_faults_of_result_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ground_truth.json does not exist"):
        read_image_records(tmp_path)
    ResultFilesWriter(tmp_path).write(noisy_records(0), None, {})
    (tmp_path / PREDICTIONS).write_text('[{"image_id": 99, "bbox": [0, 0, 1, 1], "category_id": 1, "score": 1}]')
    with pytest.raises(UserError, match="does not hold COCO results"):
        read_image_records(tmp_path)
    (tmp_path / GROUND_TRUTH).write_text('{"images": [')
    with pytest.raises(UserError, match="cannot be read"):
        read_image_records(tmp_path)
    (tmp_path / GROUND_TRUTH).write_text("{}")
    with pytest.raises(UserError, match="not a COCO data set"):
        read_image_records(tmp_path)
