"""The commands that are printed at the end of a task can be given as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.core.overrides import override
from kemr_lightning.tasks.next_steps import Finished, next_steps
from kemr_lightning.training.weights_file import SHIPPED
from tests.conftest import compose


def test_after_a_training(tmp_path: Path) -> None:
    (tmp_path / "wandb" / "offline-run-1").mkdir(parents=True)
    steps = dict(next_steps(Finished("train", tmp_path, Path("a=b.ckpt"), "in", data=["data.root=in"])))
    assert steps == {
        "find chromosomes in images of your own": [
            "python",
            "run.py",
            "task=predict",
            "ckpt='a=b.ckpt'",
            "data.root=FOLDER",
        ],
        "score the model on other annotations": [
            "python",
            "run.py",
            "task=test",
            "ckpt='a=b.ckpt'",
            "data.root=FOLDER",
        ],
        "learn how to refine this model's masks": (
            ["python", "run.py", "task=learn", "experiment=kemr_tiny", "ckpt='a=b.ckpt'", "data.root=in"]
        ),
        "try other CRF settings": [
            "python",
            "run.py",
            "-m",
            "experiment=sigma_sweep",
            "ckpt='a=b.ckpt'",
            "refine.sigma_alpha=2,3,5",
            "refine.sigma_beta=9,15,26",
            "data.root=in",
        ],
        "look at the curves in the terminal": ["wandb", "leet", f"{tmp_path}/wandb"],
        "send the run to your W&B account": ["wandb", "sync", f"{tmp_path}/wandb/offline-run-1"],
    }


def test_after_a_test_there_is_nothing_to_learn(tmp_path: Path) -> None:
    assert len(next_steps(Finished("test", tmp_path, Path("a.ckpt"), "in"))) == 2
    assert next_steps(Finished("test", tmp_path, None, "in")) == []


def test_after_a_prediction(tmp_path: Path) -> None:
    (tmp_path / "labelme").mkdir()
    finished = Finished("predict", tmp_path, Path("a.ckpt"), "in", "kemr_r101", 24)
    steps = dict(next_steps(finished))
    folder = f"{tmp_path}/labelme"
    assert steps["open and correct the masks"] == ["labelme", folder]
    again = ["python", "run.py", "experiment=kemr_r101", f"data.root={folder}", "data.label_map=null", "init=a.ckpt"]
    assert steps["train on the corrected masks"] == again


def test_after_a_prediction_beside_the_images(tmp_path: Path) -> None:
    steps = dict(next_steps(Finished("predict", tmp_path, Path("a.ckpt"), "my images")))
    assert steps["open and correct the masks"] == ["labelme", "my images"]
    again = ["python", "run.py", "experiment=kemr_tiny", "data.root=my images", "init=a.ckpt"]
    assert steps["train on the corrected masks"] == again


@pytest.mark.parametrize(
    "name", ["a folder", "a=b", "cells, old", "[1] (copy)", "it's", 'say "x"', "back\\slash", "ü-1.2_3"]
)
def test_printed_settings_mean_what_they_name(name: str) -> None:
    assert compose(override("data.root", name)).data.root == name


def test_the_shipped_model_goes_by_its_name(tmp_path: Path) -> None:
    (_, words) = next_steps(Finished("predict", tmp_path, SHIPPED, "in"))[1]
    assert "init=pretrained" in words
