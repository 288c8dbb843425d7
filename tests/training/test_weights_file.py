"""Weights in half precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kemr_lightning.core.errors import UserError
from kemr_lightning.training.checkpoint import load_module, read_checkpoint
from kemr_lightning.training.weights_file import read_weights, write_weights
from tests.test_old_runs import FIXTURE

OLD = FIXTURE / "run" / "checkpoints" / "best.ckpt"


def test_weights_come_back_to_half_precision(tmp_path: Path) -> None:
    content = read_checkpoint(OLD)
    write_weights(tmp_path / "w.safetensors", content, {"data": "synthetic"})
    again = read_weights(tmp_path / "w.safetensors")
    assert again["hyper_parameters"] == content["hyper_parameters"]
    assert again["about"] == {"data": "synthetic"}
    assert again["state_dict"].keys() == content["state_dict"].keys()
    for name, value in content["state_dict"].items():
        assert again["state_dict"][name].dtype == value.dtype
        expected = value.half().float() if value.is_floating_point() else value
        assert torch.equal(again["state_dict"][name], expected)
    assert (tmp_path / "w.safetensors").stat().st_size < OLD.stat().st_size / 2


def test_it_is_a_model_like_any_checkpoint(tmp_path: Path) -> None:
    write_weights(tmp_path / "w.safetensors", read_checkpoint(OLD))
    module, full = load_module(tmp_path / "w.safetensors"), load_module(OLD)
    assert module.label_names == full.label_names
    assert not module.training


@pytest.mark.parametrize("content", [b"", b"PK", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 100])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"w\.safetensors is damaged"):
        read_checkpoint(tmp_path / "w.safetensors")
