"""Normalisation over two processes, and which process speaks."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from kemr_lightning.core.distributed import (
    BatchNormOverProcesses,
    BatchNormSync,
    everywhere,
    from_all,
    is_first,
    quieten_others,
)

SIZES = ((1, 3, 6, 5), (2, 3, 4, 7))


def _inputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, generator=generator) * 3 + 20 for size in SIZES]


def _layer() -> nn.BatchNorm2d:
    layer = nn.BatchNorm2d(3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        layer.bias.copy_(torch.tensor([0.1, 0.0, -1.0]))
    return layer


def _normalise(rank: int, port: int, folder: str) -> None:
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", world_size=2, rank=rank)
    layer = BatchNormSync().apply(_layer())
    input = _inputs()[rank].requires_grad_()
    output = layer(input)
    output.square().mul(torch.arange(output.numel()).view_as(output) % 5).sum().backward()
    found = {"output": output, "input": input.grad, "weight": layer.weight.grad, "bias": layer.bias.grad}
    found |= {"mean": layer.running_mean, "var": layer.running_var}
    agreed = [everywhere(True), everywhere(rank == 0), from_all(f"process {rank}") == ["process 0", "process 1"]]
    found["agreed"] = torch.tensor(agreed)
    torch.save({name: value.detach() for name, value in found.items() if value is not None}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_normalisation_is_over_all_processes_and_so_are_its_gradients(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(_normalise, (port, str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    # PyTorch's own layer, given all pixels as one batch.
    layer = nn.BatchNorm1d(3)
    layer.load_state_dict(_layer().state_dict())
    inputs = [value.requires_grad_() for value in _inputs()]
    outputs = layer(torch.cat([value.movedim(1, -1).reshape(-1, 3) for value in inputs]))
    parts = outputs.split([value.numel() // 3 for value in inputs])
    wanted = [part.view(*value.movedim(1, -1).shape).movedim(-1, 1) for part, value in zip(parts, inputs, strict=True)]
    torch.stack([w.square().mul(torch.arange(w.numel()).view(w.shape) % 5).sum() for w in wanted]).sum().backward()
    for found, output, input in zip(ranks, wanted, inputs, strict=True):
        torch.testing.assert_close(found["output"], output, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found["input"], input.grad, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found["mean"], layer.running_mean)
        torch.testing.assert_close(found["var"], layer.running_var)
        assert found["agreed"].tolist() == [True, False, True]
    for name in ("weight", "bias"):
        torch.testing.assert_close(ranks[0][name] + ranks[1][name], getattr(layer, name).grad, rtol=1e-4, atol=1e-3)


def test_a_single_process_agrees_with_itself() -> None:
    assert everywhere(True)
    assert not everywhere(False)
    assert from_all("alone") == ["alone"]


def test_layers_become_plain_again() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(_layer()))
    sync = BatchNormSync()
    assert isinstance(sync.apply(model)[1][0], BatchNormOverProcesses)  # type: ignore[index]
    assert type(sync.revert(model)[1][0]) is nn.BatchNorm2d  # type: ignore[index]


def test_a_single_process_normalises_as_pytorch_does() -> None:
    ours, theirs = BatchNormOverProcesses(3), nn.BatchNorm2d(3)
    values = _inputs()[1]
    torch.testing.assert_close(ours(values), theirs(values))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(values), theirs.eval()(values))


def test_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.INFO)
    assert is_first()
    quieten_others()
    assert root.level == logging.INFO
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert not is_first()
    quieten_others()
    assert root.level == logging.ERROR
    root.manager._clear_cache()  # type: ignore[attr-defined]  # levels that loggers have remembered
