"""Two processes are as one: normalisation, the learning curve, the scores of validation and test, the files."""

from __future__ import annotations

import csv
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import torch.distributed as dist
from omegaconf import OmegaConf
from torch import nn

from kemr_lightning.core.distributed import BatchNormOverProcesses, BatchNormSync
from kemr_lightning.core.instances import Instances, Patch
from tests.conftest import SMALL, compose, hash_seed, run_task, write_image
from tests.test_run import command

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
    for name in ("weight", "bias"):
        torch.testing.assert_close(ranks[0][name] + ranks[1][name], getattr(layer, name).grad, rtol=1e-4, atol=1e-3)


def test_layers_become_plain_again() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Sequential(_layer()))
    sync = BatchNormSync()
    assert isinstance(sync.apply(model)[1][0], BatchNormOverProcesses)  # type: ignore[index]
    assert type(sync.revert(model)[1][0]) is nn.BatchNorm2d  # type: ignore[index]


@pytest.mark.parametrize("model", ["cascade_mask_rcnn_tiny", "mask_rcnn_tiny", "blendmask_tiny"])
@pytest.mark.parametrize("count", [0, 1])
def test_every_weight_has_a_gradient_whatever_is_on_the_image(model: str, count: int) -> None:
    # A process that lacked one would leave the others waiting.
    config = compose(f"model={model}")
    description = {**OmegaConf.to_container(config.model, resolve=True), "num_classes": 1}  # type: ignore[dict-item]
    detector = hydra.utils.instantiate(description, _convert_="all").train()
    patches = [Patch(20, 30, torch.ones(9, 25, dtype=torch.bool))][:count]
    boxes = torch.tensor([[20.0, 30.0, 45.0, 39.0]])[:count]
    target = Instances((96, 96), boxes, torch.ones(count), torch.ones(count, dtype=torch.int64), patches)
    sum(detector([torch.rand(1, 96, 96)], [target]).values()).backward()
    without = [name for name, weight in detector.named_parameters() if weight.requires_grad and weight.grad is None]
    assert without == []


STEPS = 6
COUNTS = (("train", 5), ("val", 3), ("test", 3))
"""None of them divides by two."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd") / "images"
    for part, count in COUNTS:
        for index in range(count):
            write_image(folder / part, f"{part}_{index}", seed=hash_seed(part, index))
    return folder


@pytest.fixture(scope="module")
def runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Run directories of the same training in one process and in two."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["experiment=kemr_tiny", f"data.root='{root}'", *SMALL, f"trainer.max_steps={STEPS}"]
    words += ["trainer.log_every_n_steps=1", "data.epoch_samples=12", f"trainer.val_check_interval={STEPS // 2}"]
    alone = run_task(folder / "alone", *words, "data.batch_size=2")
    together = folder / "together"
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "data.batch_size=1")
    done = command(*words, *two, f"hydra.run.dir='{together}'", f"paths.runs='{folder}'", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return alone, together


def column(run: Path, name: str) -> list[float]:
    with (run / "metrics.csv").open(newline="") as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row.get(name)]


def read(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text())


def test_the_learning_curve_is_that_of_one_process(runs: tuple[Path, Path]) -> None:
    alone, together = (column(run, "train/loss") for run in runs)
    assert len(alone) == len(together) == STEPS
    # Samples, first weights and normalisation are the same; which boxes are drawn for the losses is not.
    assert together[0] == pytest.approx(alone[0], rel=0.03)
    assert together == pytest.approx(alone, rel=0.25)
    assert sum(together) == pytest.approx(sum(alone), rel=0.05)
    for name in ("train/loss_rpn_objectness", "train/loss_stage1_mask", "train/loss_stage3_mask"):
        assert column(runs[1], name) == pytest.approx(column(runs[0], name), rel=0.1)


def test_scores_are_those_of_one_process(runs: tuple[Path, Path], root: Path, tmp_path: Path) -> None:
    together = runs[1]
    common = ("task=test", "logger=csv", "callbacks.figures=null", "paths.store=null")
    best = f"ckpt='{together / 'checkpoints' / 'best.ckpt'}'"
    alone = run_task(tmp_path / "test", *common, best, f"data.root='{root}'")
    assert len(read(alone, "predictions.json")) > 10
    for name in ("predictions.json", "predictions_initial.json", "ground_truth.json"):
        assert_same(read(together, name), read(alone, name))
    assert_same(read(together, "metrics.json"), read(alone, "metrics.json"), absolute=1e-6, relative=0)
    assert read(together, "metrics.json")["images"] == 3
    # Validation while training: weights and statistics of both processes were those that were saved.
    last = f"ckpt='{together / 'checkpoints' / 'last.ckpt'}'"
    validated = run_task(tmp_path / "val", *common, last, f"data.root='{root / 'val'}'")
    for group, figures in read(validated, "metrics.json").items():
        if isinstance(figures, dict):
            for name, value in figures.items():
                assert column(together, f"val/{group}/{name}")[-1] == pytest.approx(value, abs=1e-6)


def test_fewer_images_than_processes(runs: tuple[Path, Path], root: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for file in (root / "test").glob("test_0.*"):
        shutil.copy(file, tmp_path / "images")
    words = ["task=test", "logger=csv", "callbacks.figures=null", "paths.store=null", f"data.root='{tmp_path}/images'"]
    words.append(f"ckpt='{runs[1] / 'checkpoints' / 'best.ckpt'}'")
    alone = run_task(tmp_path / "alone", *words)
    two = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", f"hydra.run.dir='{tmp_path}/together'")
    done = command(*words, *two, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read(alone, "metrics.json")["images"] == 1
    assert_same(read(tmp_path / "together", "metrics.json"), read(alone, "metrics.json"), absolute=1e-6, relative=0)
    assert_same(read(tmp_path / "together", "predictions.json"), read(alone, "predictions.json"))


def assert_same(one: Any, other: Any, absolute: float = 1e-4, relative: float = 1e-6) -> None:
    """Boxes and scores may differ in what float32 leaves open; figures in percent are asked for more."""
    if isinstance(one, dict):
        assert set(one) == set(other)
        for key in one:
            assert_same(one[key], other[key], absolute, relative)
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right, absolute, relative)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=absolute, rel=relative)
    else:
        assert one == other


def test_only_the_first_process_writes(runs: tuple[Path, Path]) -> None:
    def files(run: Path) -> set[str]:
        found = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
        return {name for name in found if not name.startswith(".hydra/") and not name.endswith(".log")}

    alone, together = runs
    assert files(together) == files(alone)
    assert {path.name for path in together.glob("*.log")} <= {"run.log"}
