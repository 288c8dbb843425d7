"""Trainings of a comparison are alike, and what is done is not done again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from kemr_lightning.comparison.experiments import compose_experiments, train_missing
from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.run_directory import BEST, CONFIG, LAST, METRICS
from tests.comparison.helpers import config, noisy_records, write_run
from tests.conftest import compose
from tests.test_old_runs import FIXTURE, MODEL, WRITTEN_IN

TINY = ["mask_rcnn_tiny", "blendmask_tiny", "cascade_mask_rcnn_tiny", "kemr_tiny"]


def composed(tmp_path: Path, *overrides: str, names: list[str] = TINY) -> list[DictConfig]:
    found = compose_experiments(names, overrides, lambda words: compose(*words), tmp_path)
    assert list(found) == [tmp_path / "runs" / name for name in names]
    return list(found.values())


def test_every_training_gets_the_shared_settings(tmp_path: Path) -> None:
    words = [
        "task=compare",
        "experiments=[a,b]",
        "compare.resamples=7",
        "data.root='my images'",
        "seed=3",
        "trainer.max_steps=5",
    ]
    for name, found in zip(TINY, composed(tmp_path, *words), strict=True):
        assert found.name == name
        assert found.task.name == "train"
        assert (found.seed, found.data.seed, found.trainer.max_steps, found.data.root) == (3, 3, 5, "my images")
        assert found.paths.run_dir == str(tmp_path / "runs" / name)
        assert found.callbacks.checkpoint.dirpath == str(tmp_path / "runs" / name / "checkpoints")


def test_refinement_is_for_those_that_refine(tmp_path: Path) -> None:
    found = composed(tmp_path, "refine.w1=7", "knowledge=some.safetensors", "data.root=x")
    assert [item.refine is not None for item in found] == [False, False, False, True]
    assert [item.knowledge for item in found] == [None, None, None, "some.safetensors"]
    assert found[3].refine.w1 == 7


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^ckpt=last has no use here"):
        composed(tmp_path, "ckpt=last")
    with pytest.raises(UserError, match=r"^experiments=\['kemr_tiny', 'kemr_tiny'\] names one twice"):
        composed(tmp_path, names=["kemr_tiny", "kemr_tiny"])


def settled(**settings: object) -> DictConfig:
    made = OmegaConf.create(config(**settings))  # type: ignore[arg-type]
    assert isinstance(made, DictConfig)
    return made


def test_finished_ones_are_read_half_finished_ones_resume(tmp_path: Path) -> None:
    done = write_run(tmp_path / "done", noisy_records(0, 2))
    half = write_run(tmp_path / "half", noisy_records(0, 2))
    (half / METRICS).unlink()
    (half / BEST).rename(half / LAST)
    seen: dict[str, str | None] = {}
    trainings = {done: settled(), half: settled(), tmp_path / "new": settled()}

    def train(one: DictConfig) -> None:
        seen[next(path.name for path, item in trainings.items() if item is one)] = one.get("resume")

    train_missing(trainings, train)
    assert seen == {"half": "auto", "new": None}


def test_a_training_with_other_settings_is_not_taken_for_this_one(tmp_path: Path) -> None:
    done = write_run(tmp_path / "all" / "runs" / "done", noisy_records(0, 2))
    line = rf"^directory={tmp_path / 'all'} has a training of done with other settings: .*, or delete {done}$"
    for other in (settled(steps=7), settled(seed=1), settled(resize=[64, 48]), settled(refine={"w1": 2})):
        with pytest.raises(SettingError, match=line):
            train_missing({done: other}, lambda one: None)
    train_missing({done: settled(num_workers=3)}, lambda one: None)


def test_a_training_of_an_earlier_version_resumes(tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(FIXTURE / "run", half)
    (half / METRICS).unlink()
    (half / BEST).rename(half / LAST)
    asked = compose(
        *("experiment=kemr_tiny", *MODEL, f"data.root={WRITTEN_IN}/folder", "data.augmentation.crop_size=[96,96]"),
        *("trainer.max_steps=600", "trainer.val_check_interval=200", "paths.run_dir=x", "paths.runs=x"),
    )
    assert OmegaConf.load(half / CONFIG).scheduler._target_ != asked.scheduler._target_  # it has moved since
    other = asked.copy()
    other.scheduler.warmup_fraction = 0.3
    with pytest.raises(UserError, match=r"other settings: scheduler.warmup_fraction differs"):
        train_missing({half: other}, lambda one: None)
    seen: list[DictConfig] = []
    train_missing({half: asked}, seen.append)
    assert [one.resume for one in seen] == ["auto"]
