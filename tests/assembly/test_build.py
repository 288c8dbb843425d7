"""Objects from the configuration: shared data, parts handed to the callbacks that need them, the trainer's limits."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
from omegaconf import DictConfig, open_dict

from kemr_lightning.assembly import build
from kemr_lightning.callbacks.refinement import RefinementCallback
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances
from kemr_lightning.core.run_directory import BEST
from tests.conftest import compose

DATA = ("data=synthetic", "data.size=[128,96]", "data.count=3", "data.train_images=2", "data.test_images=2")
QUIET = ("logger=csv", "paths.run_dir=somewhere", "trainer.accelerator=cpu")


def refiner(image: object, instances: Instances) -> Instances:
    return instances


def test_jobs_of_a_sweep_share_their_data(monkeypatch: pytest.MonkeyPatch) -> None:
    config, other = compose(*DATA), compose(*DATA, "seed=1")
    monkeypatch.setattr(build.jobs, "current", lambda: "a job")
    first = build.build_data(config, "test", ["chromosome"])
    assert build.build_data(config, "test", ["chromosome"]) is first
    assert build.build_data(config, "fit", ["chromosome"]) is not first
    again = build.build_data(config, "test", ["chromosome"])
    assert build.build_data(other, "test", ["chromosome"]) is not again
    monkeypatch.setattr(build.jobs, "current", lambda: None)
    alone = build.build_data(other, "test", ["chromosome"])
    assert build.build_data(other, "test", ["chromosome"]) is not alone


def test_whole_samples_are_not_augmented() -> None:
    data = build.build_data(compose(*DATA), "fit")
    assert data.train is not None
    assert tuple(data.train[0].image.shape) == (384, 384)
    whole = build.whole_samples(data, "train")
    assert tuple(whole[0].image.shape) == (96, 128)
    assert len(whole) == 2
    data.test = None
    with pytest.raises(UserError, match="no test images"):
        build.whole_samples(data, "test")


def test_the_metric_has_the_configured_thresholds() -> None:
    metric = build.build_metric(compose("metric.ia_score=0.25", "metric.ia_iou=0.75", "metric.threshold=0.4"))
    assert (metric.ia_score, metric.ia_iou, metric.threshold) == (0.25, 0.75, 0.4)


def renamed(config: DictConfig) -> DictConfig:
    """The same configuration with another name for the callback that refines."""
    with open_dict(config):
        config.callbacks.refines_masks = config.callbacks.pop("refinement")
    return config


@pytest.mark.parametrize("change", [lambda config: config, renamed])
def test_the_refiner_and_the_metric_reach_the_callback_whatever_its_name(change: object) -> None:
    config = change(compose(*QUIET))  # type: ignore[operator]
    metric = build.build_metric(config)
    (callback,) = [
        each for each in build.build_callbacks(config, refiner, metric) if isinstance(each, RefinementCallback)
    ]
    assert callback.refiner is refiner
    assert callback.metrics["refined"].ia_score == metric.ia_score


def test_a_callback_that_is_null_is_left_out() -> None:
    config = compose("callbacks.figures=null", *QUIET)
    names = {type(each).__name__ for each in build.build_callbacks(config, None, build.build_metric(config))}
    assert "FiguresCallback" not in names
    assert "TablesCallback" in names


@pytest.mark.parametrize(("steps", "interval"), [(50, 50), (1000, 400), (-1, 400)])
def test_a_short_run_is_validated_at_its_end(steps: int, interval: int) -> None:
    config = compose(f"trainer.max_steps={steps}", "trainer.val_check_interval=400", *QUIET)
    trainer = build.build_trainer(config, None, build.build_metric(config))
    assert isinstance(trainer, pl.Trainer)
    assert trainer.val_check_interval == interval


def test_a_job_of_a_sweep_starts_no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose("trainer=ddp", "trainer.devices=2", *QUIET)
    monkeypatch.setattr(build.jobs, "current", lambda: "a job")
    with pytest.raises(UserError, match="submitit_slurm"):
        build.build_trainer(config, None, build.build_metric(config))


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("model.heads.nms=soft",), "model.heads.nms=soft is not a kind of suppression"),
        (("views=9",), "views=9"),
    ],
)
def test_a_wrong_setting_is_named_with_its_key(overrides: tuple[str, ...], line: str) -> None:
    with pytest.raises(UserError) as caught:
        build.build_module(compose(*overrides), ["chromosome"])
    assert str(caught.value).startswith(line)


def test_a_wrong_setting_of_a_callback_is_named_with_its_key() -> None:
    config = compose("callbacks.ema.decay=2", *QUIET)
    with pytest.raises(UserError, match=r"^callbacks\.ema\.decay=2"):
        build.build_callbacks(config, None, build.build_metric(config))


class Derived(RefinementCallback):
    """A callback of somebody's own."""


def test_a_derived_callback_refines_too() -> None:
    config = compose(f"callbacks.refinement._target_={Derived.__module__}.Derived", *QUIET)
    built = build.build_callbacks(config, refiner, build.build_metric(config))
    (callback,) = [each for each in built if isinstance(each, Derived)]
    assert callback.refiner is refiner


def test_a_trained_module_has_the_store_of_its_checkpoint(trained: Path, tmp_path: Path) -> None:
    checkpoint = trained / BEST
    config = compose("task=test", *DATA, f"paths.store='{tmp_path / 'store'}'")
    module = build.trained_module(config, checkpoint)
    assert module.store is not None
    known = build.store_of(config, checkpoint, module)
    assert known is not None
    assert module.store.folder == known.folder  # type: ignore[attr-defined]
    assert known.folder.is_relative_to(tmp_path / "store")
    assert build.trained_module(compose("task=test", *DATA, "paths.store=null"), checkpoint).store is None
