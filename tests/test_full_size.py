"""The paper's experiments at full size: 1280x1024, batch 2, ResNet-101, on a CPU. Minutes each: ``make test-full``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_GIB = 14
EXPERIMENTS = ("mask_rcnn_r101", "blendmask_r101", "cascade_mask_rcnn_r101", "kemr_r101")


@pytest.mark.full
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_full_size(experiment: str, tmp_path: Path, capsys) -> None:
    """Two training steps, one validation image, one test image; within the memory of a 16 GB machine."""
    command = [sys.executable, "run.py", f"experiment={experiment}", "model.weights=none", "data=synthetic"]
    command += ["trainer.max_steps=2"]
    command += ["trainer.limit_val_batches=1", "trainer.limit_test_batches=1", f"hydra.run.dir={tmp_path / 'run'}"]
    begin = time.monotonic()
    with (tmp_path / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "WANDB_MODE": "offline"}
        )
        _, status, usage = os.wait4(process.pid, 0)  # unlike Popen.wait, it gives this child's peak memory
        process.returncode = os.waitstatus_to_exitcode(status)
    minutes, cpu_minutes = (time.monotonic() - begin) / 60, (usage.ru_utime + usage.ru_stime) / 60
    gib = usage.ru_maxrss / 2**20
    with capsys.disabled():
        print(f"\n| {experiment} | {gib:.1f} GiB | {cpu_minutes:.1f} CPU-minutes | {minutes:.1f} minutes |")
    assert process.returncode == 0, (tmp_path / "log.txt").read_text()[-2000:]
    assert gib <= LIMIT_GIB
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["images"] == 1
    assert ("refined" in metrics) == (experiment == "kemr_r101")
