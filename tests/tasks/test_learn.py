"""``task=learn``: which masks it learns from, and what it writes. The detector is replaced by drawn masks."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kemr_lightning.core.errors import UserError
from kemr_lightning.learning.learn import OneGroupError
from kemr_lightning.learning.learning_source import LearningSource
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.tasks import learn as task
from kemr_lightning.training.checkpoint import load_module
from tests.conftest import compose, run_task
from tests.learning.helpers import by_heart, rods

SMALL = (
    "learn.settings.evidence_epochs=1",
    "learn.settings.evidence_width=4",
    "learn.settings.crf_steps=1",
    "learn.settings.folds=2",
    "learn.settings.iterations=1",
)


def test_stored_predictions_are_learned_from(
    trained: Path,
    labelme_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    checkpoint, learned = trained / "checkpoints" / "best.ckpt", []

    def lesson(source: LearningSource, *_: object) -> Any:
        # What is learned from a barely trained model's masks is of no interest here.
        learned.append(source.cases)
        raise UserError("learned nothing")

    monkeypatch.setattr(task, "learn_from", lesson)
    words = ("task=learn", f"ckpt='{checkpoint}'", f"data.root='{labelme_root}'", "learn.source=all")
    for number in range(2):
        with caplog.at_level(logging.INFO), pytest.raises(SystemExit):
            run_task(tmp_path / str(number), *words, f"paths.store='{tmp_path / 'store'}'")
        if number == 0:
            assert "images computed and stored" in caplog.text
            assert "reused from" not in caplog.text
            detector = type(load_module(checkpoint).detector)
            monkeypatch.setattr(detector, "forward", lambda *_: pytest.fail("a forward pass was run"))
    for count in (2, 4):  # of val/ and of train/
        assert f"initial predictions of {count} images reused from" in caplog.text
    first, second = learned
    assert len(first) == 6
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.initial.boxes, other.initial.boxes)
        assert torch.equal(one.initial.scores, other.initial.scores)


def test_one_group_is_said_with_the_key_of_its_pattern(
    trained: Path,
    labelme_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("task=learn", f"ckpt='{trained / 'checkpoints' / 'best.ckpt'}'", f"data.root='{labelme_root}'")

    def lesson(*_: object) -> Any:
        raise OneGroupError("check the pattern")

    monkeypatch.setattr(task, "learn_from", lesson)
    with pytest.raises(SystemExit):
        run_task(tmp_path / "run", *words, "data.group_pattern='^(v).*'")
    assert "error: check the pattern: data.group_pattern='^(v).*'" in capsys.readouterr().err


def test_a_lesson_from_the_command_to_the_knowledge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = [rods(seed) for seed in range(4)]
    parts = {"train": [by_heart(case) for case in held_out], "val": held_out}
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"weights")
    module: Any = SimpleNamespace(label_names=["chr"], store=None)
    monkeypatch.setattr(task, "needed_checkpoint", lambda _: checkpoint)
    monkeypatch.setattr(task, "trained_module", lambda *_: module)
    monkeypatch.setattr(task, "build_data", lambda *_: None)
    monkeypatch.setattr(task, "whole_samples", lambda _, part: parts[part])
    monkeypatch.setattr(task, "gather_masked_images", lambda _, samples, *__: samples)
    root = tmp_path / "my images"
    config = compose("task=learn", "experiment=kemr_tiny", f"data.root='{root}'", *SMALL)
    config.paths.run_dir = str(tmp_path / "run")
    gain = task.learn(config)
    origin = Knowledge.load(tmp_path / "run" / "knowledge.safetensors").origin
    assert list(origin) == ["checkpoint", "checkpoint_sha256", "data", "images", "instances", "out_of_sample"]
    assert (origin["checkpoint"], origin["data"], origin["images"]) == ("best.ckpt", "my images, val images", 4)
    figures = json.loads((tmp_path / "run" / "learn.json").read_text())
    assert figures == origin["out_of_sample"]
    chosen = figures["experiences"]
    assert gain == chosen["iou_after"] - chosen["iou_before"]
    assert chosen["lost"] <= 0.02
    # Blurred masks a pixel too large on clean rods: refinement that learns anything mends them.
    assert gain > 0.05
    assert chosen["gained"] > 0.3
    for name in ("knowledge.txt", "learn.csv", "figures/learning.png", "figures/states.png"):
        assert (tmp_path / "run" / name).stat().st_size > 0


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("learn.source=test", "learn.source=test is unknown. Use one of val, train, all, auto"),
        ("learn.settings.folds=1", "learn.settings.folds=1 is out of range. Give a whole number, 2 or more"),
        ("+learn.settings.foo=1", "learn.settings.foo=1 is not a setting. The settings are folds, evidence,"),
        ("+learn.foo=1", "learn.foo=1 is not a setting. The settings are source, settings"),
        ("learn.settings=null", "learn.settings=null is not a group of settings. Leave it as it is, or set"),
        ("learn=null", "learn=null is not a group of settings. Leave it as it is, or set learn.source or"),
        ("learn.settings.margin=-1", "learn.settings.margin=-1 is out of range. Give a whole number, 0 or more"),
    ],
)
def test_wrong_settings_are_one_line(
    override: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_task(tmp_path / "run", "task=learn", "data=synthetic", override)
    assert caught.value.code == 2
    assert line in capsys.readouterr().err


def test_configured_settings_are_the_defaults() -> None:
    settings = task.settings_of(compose("task=learn", "seed=3", "data=synthetic"))
    assert settings == task.LearnSettings(seed=3)
