"""The paper's experiments at full size: 1280x1024, batch 2, ResNet-101, on a CPU. Minutes each: ``make test-full``."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from kemr_lightning.models.weights import cached_file, imagenet_weights

ROOT = Path(__file__).parents[1]
LIMIT_GIB = 14
SIZE = (1280, 1024)
EXPERIMENTS = ("mask_rcnn_r101", "blendmask_r101", "cascade_mask_rcnn_r101", "kemr_r101")


def run_paper(experiment: str, folder: Path, weights: str, *overrides: str, **environment: str) -> tuple[float, str]:
    """Two training steps, one validation batch and one test batch in a process of its own.

    An epoch of the paper's budget is longer than two steps and validates at its end only, so the literal command with
    ``trainer.max_steps=2`` would not validate at all: the interval is given as well.

    Returns:
        Peak memory in GiB, and a row for a table.
    """
    command = [sys.executable, "run.py", f"experiment={experiment}", f"model.weights={weights}", "data=synthetic"]
    command += ["trainer.max_steps=2", "trainer.val_check_interval=2"]
    command += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", f"hydra.run.dir={folder / 'run'}"]
    log_file = folder / "log.txt"
    begin = time.monotonic()
    with log_file.open("w") as log:
        process = subprocess.Popen(
            [*command, *overrides],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env={**os.environ, "WANDB_MODE": "offline", **environment},
        )
        _, status, usage = os.wait4(process.pid, 0)  # unlike Popen.wait, it gives this child's peak memory
        process.returncode = os.waitstatus_to_exitcode(status)
    minutes, cpu_minutes = (time.monotonic() - begin) / 60, (usage.ru_utime + usage.ru_stime) / 60
    gib = usage.ru_maxrss / 2**20
    assert process.returncode == 0, log_file.read_text()[-2000:]
    return gib, f"| {experiment} | {gib:.1f} GiB | {cpu_minutes:.1f} CPU-minutes | {minutes:.1f} minutes |"


def check_run(run: Path, experiment: str, size: tuple[int, int] = SIZE) -> None:
    """Two steps with finite losses, a validation, and a test of one image of the right size."""
    with (run / "metrics.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    losses = [float(row["train/loss"]) for row in rows if row.get("train/loss")]
    assert len(losses) == 2
    assert all(math.isfinite(loss) for loss in losses)
    assert [row["step"] for row in rows if row.get("val/MaskAP")] == ["1"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["images"] == 1
    assert metrics["instances"] > 0
    assert ("refined" in metrics) == (experiment == "kemr_r101")
    (image,) = json.loads((run / "ground_truth.json").read_text())["images"]
    assert (image["width"], image["height"]) == size


def make_weights(hub: Path) -> dict[str, torch.Tensor]:
    """A file of torchvision's ResNet-101 in torch hub's cache, with statistics that fit its random weights.

    Under other statistics, which frozen BatchNorm keeps, the features of random weights grow from layer to layer.
    """
    torch.manual_seed(0)
    network = models.resnet101(weights=None).train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    with torch.no_grad():
        network(torch.randn(4, 3, 128, 128))
    state = network.state_dict()
    file = hub / "checkpoints" / cached_file(imagenet_weights("resnet101")).name
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    return state


def check_frozen(run: Path, before: dict[str, torch.Tensor]) -> None:
    """After training, the stem, the first stage and all statistics are as in the file, and the rest is not."""
    saved = torch.load(run / "checkpoints" / "last.ckpt", "cpu", weights_only=True)["state_dict"]
    body = {name.split(".body.")[1]: value for name, value in saved.items() if ".body." in name}
    assert body.keys() == {n for n in before if not n.startswith("fc.") and not n.endswith("num_batches_tracked")}
    changed = {name for name, value in body.items() if not torch.equal(value, before[name])}
    convolutions = {name for name, value in body.items() if value.dim() == 4}
    assert changed == {name for name in convolutions if name.startswith(("layer2.", "layer3.", "layer4."))}


@pytest.mark.full
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_full_size(experiment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Within the memory of a 16 GB machine, with live normalisation, which needs the most."""
    gib, row = run_paper(experiment, tmp_path, "none")
    with capsys.disabled():
        print(f"\n{row}")
    assert gib <= LIMIT_GIB
    check_run(tmp_path / "run", experiment)


@pytest.mark.full
def test_full_size_with_imagenet_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration as it is, frozen BatchNorm included, on a file that only looks like torchvision's."""
    before = make_weights(tmp_path / "torch" / "hub")
    gib, row = run_paper("mask_rcnn_r101", tmp_path, "imagenet", TORCH_HOME=str(tmp_path / "torch"))
    with capsys.disabled():
        print(f"\n{row} frozen")
    assert gib <= LIMIT_GIB
    check_run(tmp_path / "run", "mask_rcnn_r101")
    check_frozen(tmp_path / "run", before)
