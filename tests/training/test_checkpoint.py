"""Checkpoints: rebuilt from themselves alone, and not dangerous if untrusted."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import kemr_lightning
from kemr_lightning.core.errors import UserError
from kemr_lightning.training.checkpoint import (
    check_targets,
    init_weights,
    load_module,
    load_weights,
    read_checkpoint,
    without_weights,
)
from kemr_lightning.training.checkpoint_files import write_checkpoint
from tests.conftest import rods


@pytest.fixture
def checkpoint(trained: Path) -> Path:
    return trained / "checkpoints" / "best.ckpt"


def altered(checkpoint: Path, path: Path, **model: Any) -> Path:
    """A copy of a checkpoint with other values in its model's description."""
    content = read_checkpoint(checkpoint)
    content["hyper_parameters"]["model"].update(model)
    write_checkpoint(content, path)
    return path


def test_module_is_rebuilt(checkpoint: Path) -> None:
    module = load_module(checkpoint)
    assert not module.training
    weights = read_checkpoint(checkpoint)["state_dict"]
    assert weights.keys() == module.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())


def test_load_predicts_arrays_and_files_alike(checkpoint: Path, labelme_root: Path) -> None:
    from PIL import Image

    file = labelme_root / "test" / "test_0.png"
    model = kemr_lightning.load(checkpoint)
    from_file, from_image = model.predict(file), model.predict(Image.open(file))
    grey, _ = rods(seed=5)
    from_array, from_colour = model.predict(grey), model.predict(grey[:, :, None].repeat(3, axis=2))
    for one, other in ((from_file, from_image), (from_array, from_colour)):
        assert one.image_size == (96, 128)
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.masks(), other.masks())
    assert len(from_array.scores) == len(from_array)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.ckpt does not exist"):
        kemr_lightning.load(tmp_path / "none.ckpt")


@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_truncated(checkpoint: Path, tmp_path: Path, part: float) -> None:
    data = checkpoint.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(data[: int(part * len(data))])
    with pytest.raises(UserError, match=r"cut\.ckpt"):
        load_module(tmp_path / "cut.ckpt")


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], {"state_dict": {}, "hyper_parameters": {"lr": 1}}])
def test_foreign(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "foreign.ckpt")
    with pytest.raises(UserError, match=r"foreign\.ckpt"):
        load_module(tmp_path / "foreign.ckpt")


class Mischief:
    """Pickles as a call that makes a folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.folder,)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": Mischief(str(tmp_path / "harm"))}, tmp_path / "bad.ckpt")
    with pytest.raises(UserError, match=r"bad\.ckpt"):
        load_module(tmp_path / "bad.ckpt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "target",
    [
        "os.mkdir",
        "torch.load",
        "kemr_lightning.data.labelme.write_labelme",
        "kemr_lightning.models.build.nn.Linear",
        "kemr_lightning.models.build.nothing",
        "kemr_lightning.models",
        7,
    ],
)
def test_only_models_of_this_package_are_built(checkpoint: Path, tmp_path: Path, target: object) -> None:
    nested = {"_target_": target, "path": str(tmp_path / "harm")}
    path = altered(checkpoint, tmp_path / "bad.ckpt", backbone=nested)
    with pytest.raises(UserError, match="not a model of this package"):
        load_module(path)
    assert not (tmp_path / "harm").exists()


def test_targets_in_lists_are_checked_and_interpolations_refused() -> None:
    with pytest.raises(UserError, match="not a model"):
        check_targets({"stages": [{"_target_": "os.mkdir"}]}, "file")
    with pytest.raises(UserError, match="unresolved"):
        check_targets({"width": "${oc.env:HOME}"}, "file")


def test_model_of_another_version(checkpoint: Path, tmp_path: Path) -> None:
    path = altered(checkpoint, tmp_path / "new.ckpt", unheard_of=1)
    with pytest.raises(UserError, match="cannot be built"):
        load_module(path)


def test_a_setting_of_another_version_is_named(checkpoint: Path, tmp_path: Path) -> None:
    heads = read_checkpoint(checkpoint)["hyper_parameters"]["model"]["heads"]
    path = altered(checkpoint, tmp_path / "new.ckpt", heads={**heads, "unheard_of": 1})
    with pytest.raises(UserError, match=r"cannot be built \(heads\.unheard_of=1 is not a setting of this model"):
        load_module(path)


def written(module: nn.Module, path: Path) -> Path:
    """A checkpoint of a network's weights."""
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": {"model": {}, "label_names": ["a"]}}, path)
    return path


def filled(value: float, outputs: int = 3) -> nn.Sequential:
    """Two layers, all of whose weights have one value."""
    made = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, outputs))
    for weight in made.parameters():
        nn.init.constant_(weight, value)
    return made


def test_a_training_starts_from_the_weights_that_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(filled(1.0), tmp_path / "first.ckpt")
    module = filled(0.0, outputs=5)
    with caplog.at_level(logging.INFO):
        init_weights(module, path)
    assert set(module[0].weight.flatten().tolist()) == {1.0}
    assert set(module[1].weight.flatten().tolist()) == {0.0}
    assert f"2 of 4 weights loaded from {path}" in caplog.text
    assert f"2 weights are not in {path} and start at random: 1.bias, 1.weight" in caplog.text


def test_a_training_cannot_start_where_nothing_fits(tmp_path: Path) -> None:
    path = written(nn.Linear(7, 7), tmp_path / "first.ckpt")
    with pytest.raises(UserError, match=r"^none of the weights in .*first\.ckpt fits this model\. Choose the model"):
        init_weights(filled(0.0), path)


def test_all_weights_or_none_are_loaded(tmp_path: Path) -> None:
    module = filled(0.0)
    load_weights(module, filled(2.0).state_dict(), "a.ckpt")
    assert set(module[1].weight.flatten().tolist()) == {2.0}
    with pytest.raises(UserError, match=r"the weights in b\.ckpt do not fit the model \(Missing key.*1\.weight"):
        load_weights(module, {"0.weight": torch.zeros(4, 2), "0.bias": torch.zeros(4)}, "b.ckpt")


def test_a_description_without_weights_keeps_all_else() -> None:
    assert without_weights({"weights": "coco", "heads": {}}) == {"weights": "none", "heads": {}}
    assert without_weights({"width": 3}) == {"width": 3}


def test_weights_that_do_not_fit(checkpoint: Path, tmp_path: Path) -> None:
    path = altered(checkpoint, tmp_path / "other.ckpt", num_classes=3)
    with pytest.raises(UserError, match="do not fit"):
        load_module(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label_names": 5}, "label_names 5 are not names"),
        ({"label_names": "abc"}, "label_names 'abc' are not names"),
        ({"label_names": ["a", 3]}, "are not names of classes"),
        ({"label_names": ["a", " "]}, "are not names of classes"),
        ({"label_names": ["a", "a"]}, "are not distinct"),
        ({"input_size": "ab"}, "input_size 'ab' is not a width and a height"),
        ({"input_size": [64]}, "is not a width and a height"),
        ({"input_size": [64, 0]}, "is not a width and a height"),
        ({"input_size": [64, 64.5]}, "is not a width and a height"),
        ({"input_size": [10**9, 10**9]}, "is not a width and a height"),
    ],
)
def test_values_that_no_training_writes_are_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    hyper = {"model": {"a": 1}, "label_names": ["chr"], "input_size": None} | change
    torch.save({"state_dict": {"w": torch.zeros(1)}, "hyper_parameters": hyper}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=words):
        read_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("weights", [{1: torch.zeros(1)}, {"w": 3}, {"w": None}, {("a",): torch.zeros(1)}])
def test_weights_have_names_and_are_tensors(tmp_path: Path, weights: dict[Any, Any]) -> None:
    torch.save({"state_dict": weights, "hyper_parameters": {"model": {}, "label_names": ["a"]}}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="its state_dict is not weights by name"):
        read_checkpoint(tmp_path / "a.ckpt")
