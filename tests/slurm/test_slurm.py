"""Sweeps and trainings on a real Slurm of one node: jobs, failures, requeueing. Needs root, slurm-wlm and munge."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.test_run import ROOT

HERE = Path(__file__).parent
PATIENCE = float(os.environ.get("SLURM_TEST_SECONDS", "900"))
"""For a job to get somewhere."""

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        shutil.which("slurmd", path=f"{os.environ['PATH']}:/usr/sbin") is None or os.geteuid() != 0,
        reason="needs slurm-wlm, munge and root",
    ),
]
LAUNCHER = (
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=2",
    "hydra.launcher.timeout_min=60",
)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A Slurm of one node, and the environment in which its commands find it."""
    folder = tmp_path_factory.mktemp("slurm")
    script = str(HERE / "one_node.sh")
    started = subprocess.run(["sh", script, "start", str(folder)], capture_output=True, text=True, check=False)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PYTHONPATH": str(ROOT),
            "WANDB_MODE": "offline",
            "PYTHON": sys.executable,
        }
    finally:
        subprocess.run(["sh", script, "stop", str(folder)], check=False)


def wait(what: str, done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"{what} did not happen in {PATIENCE:.0f} s"
        time.sleep(0.3)


def steps(run: Path) -> list[int]:
    """The steps of which losses were logged, in the order of ``metrics.csv``."""
    with (run / "metrics.csv").open(newline="") as stream:
        return [int(row["step"]) for row in csv.DictReader(stream) if row.get("train/loss")]


def test_a_sweep_is_an_array_of_jobs(
    environment: dict[str, str], trained: Path, labelme_root: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "a sweep"
    words = ["-m", "experiment=sigma_sweep", *LAUNCHER, f"ckpt='{trained / 'checkpoints' / 'best.ckpt'}'"]
    words += [f"data.root='{labelme_root}'", "refine.sigma_alpha=2,-1,3", "refine.sigma_beta=9"]
    words += [f"hydra.sweep.dir='{sweep}'", f"paths.runs='{tmp_path}'"]
    command = [sys.executable, str(ROOT / "run.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    with (sweep / "sweep.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["done", "failed", "done"], said
    assert "refine.sigma_alpha=-1 must be greater than 0" in rows[1]["error"]
    assert "best: job " in said
    assert (sweep / "heatmap_MaskAP.png").is_file()
    ids = {folder.name.rsplit("-", 1)[-1] for folder in sweep.glob("*/wandb/offline-run-*")}
    assert len(ids) == 2
    # Slurm has run them: an array, a log of each job.
    assert len(list((sweep / ".submitit").glob("*_*/*_log.out"))) == 3


def test_a_training_in_a_sweep_resumes_after_preemption(
    environment: dict[str, str], labelme_root: Path, tmp_path: Path
) -> None:
    sweep, count = tmp_path / "sweep", 40
    words = ["-m", "experiment=kemr_tiny", *LAUNCHER, f"data.root='{labelme_root}'", *SMALL, "seed=3"]
    words += [f"trainer.max_steps={count}", "trainer.val_check_interval=10", "trainer.log_every_n_steps=1"]
    words += [f"hydra.sweep.dir='{sweep}'", f"paths.runs='{tmp_path}'"]
    command = [sys.executable, str(ROOT / "run.py"), *words]
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=said, stderr=said) as process,
    ):
        try:
            wait("a checkpoint", (sweep / "0" / "checkpoints" / "last.ckpt").is_file)
            (log,) = (sweep / ".submitit").glob("*/*_0_log.out")
            job = log.name.removesuffix("_0_log.out")
            # What a cluster sends before it takes a node away.
            subprocess.run(["scancel", "--signal=USR2", job], env=environment, check=True)
            assert process.wait(PATIENCE) == 0, (tmp_path / "said").read_text() + log.read_text()
        finally:
            process.kill()
    text = log.read_text()
    assert "Requeued job" in text
    assert "was interrupted: it resumes from" in text
    with (sweep / "sweep.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert row["status"] == "done"
    assert_went_on(sweep / "0", count)


def test_two_processes_of_a_requeued_job_resume(
    environment: dict[str, str], labelme_root: Path, tmp_path: Path
) -> None:
    count = 40
    environment = {**environment, "RUNS": str(tmp_path)}
    words = ["experiment=kemr_tiny", f"data.root='{labelme_root}'", *SMALL, "data.batch_size=1"]
    words += [f"trainer.max_steps={count}", "trainer.val_check_interval=10", "trainer.log_every_n_steps=1"]
    words += ["trainer.accelerator=cpu", "trainer.devices=2", f"paths.runs='{tmp_path}'"]
    options = ["--parsable", "--ntasks-per-node=2", "--cpus-per-task=1", "--mem=4G", f"--output={tmp_path}/said"]
    batch = ["sbatch", *options, str(HERE / "train.sbatch"), *words]
    job = subprocess.run(batch, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    run, said = tmp_path / "slurm" / job, tmp_path / "said"
    try:
        wait("a checkpoint", (run / "checkpoints" / "last.ckpt").is_file)
        subprocess.run(["scancel", "--signal=USR1", job], env=environment, check=True)
        wait("requeueing", lambda: _job(job, environment, "Restarts") == "1")
        wait("the end", lambda: _job(job, environment, "JobState") in ("COMPLETED", "FAILED", "CANCELLED", "NODE_FAIL"))
    finally:
        subprocess.run(["scancel", job], env=environment, check=False)
    assert "the job was requeued: resuming from" in said.read_text()
    assert_went_on(run, count)
    assert json.loads((run / "metrics.json").read_text())["images"] == 2


def assert_went_on(run: Path, count: int) -> None:
    """All steps were taken, and the second attempt did not begin at the first."""
    taken = steps(run)
    assert taken[-1] == count - 1
    assert sorted(set(taken)) == list(range(count))
    assert taken.count(0) == 1
    assert (run / "metrics.json").is_file()


def _job(job: str, environment: dict[str, str], name: str) -> str | None:
    shown = subprocess.run(
        ["scontrol", "show", "job", job], env=environment, capture_output=True, text=True, check=True
    )
    found = re.search(rf"\b{name}=(\S+)", shown.stdout)
    return None if found is None else found.group(1)
