"""A training that is killed at any moment and started again ends with the very files of one that was not."""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from kemr_lightning.training.checkpoint import read_checkpoint
from tests.conftest import run_task

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills processes as Linux does")

TINY = (
    "experiment=kemr_tiny",
    "data=synthetic",
    "data.size=[96,96]",
    "data.count=4",
    "data.train_images=5",
    "data.val_images=2",
    "data.test_images=2",
    "data.augmentation.crop_size=[64,64]",
    "logger=csv",
    "callbacks.figures=null",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "resume=auto",
)
"""A training whose step takes a moment; five images make epochs of two steps."""


def length(steps: int, interval: int) -> tuple[str, ...]:
    return f"trainer.max_steps={steps}", f"trainer.val_check_interval={interval}"


def work(run_dir: Path, overrides: tuple[str, ...]) -> None:
    """What a process does: its own session and log, then the task."""
    os.setsid()
    log = os.open(run_dir.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(1)
    run_task(run_dir, *overrides)


class Server:
    """Starts processes that have imported everything already."""

    def __init__(self) -> None:
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.test_recovery", "kemr_lightning.tasks.train"])

    def start(self, run_dir: Path, *overrides: str) -> ForkServerProcess:
        process = self.context.Process(target=work, args=(run_dir, overrides))
        process.start()
        return process

    def run(self, run_dir: Path, *overrides: str) -> int | None:
        process = self.start(run_dir, *overrides)
        process.join(600)
        return process.exitcode


@pytest.fixture(scope="module")
def server() -> Server:
    return Server()


def fingerprint(value: Any) -> str:
    """A digest of nested values with all bits of their tensors."""
    digest = hashlib.sha256()

    def add(item: Any) -> None:
        if isinstance(item, torch.Tensor):
            digest.update(f"{item.dtype}{tuple(item.shape)}".encode())
            digest.update(item.contiguous().numpy().tobytes())
        elif isinstance(item, dict):
            for key in item:
                digest.update(repr(key).encode())
                add(item[key])
        elif isinstance(item, list | tuple):
            for inner in item:
                add(inner)
        else:
            digest.update(repr(item).encode())

    add(value)
    return digest.hexdigest()


STATES = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers")


def outcome(run_dir: Path) -> dict[str, str]:
    """Digests of all that a training ends with: weights, averages, optimiser, schedule, scores, predictions, losses."""
    found = {}
    for name in ("last", "best"):
        content = read_checkpoint(run_dir / "checkpoints" / f"{name}.ckpt")
        found |= {f"{name} {key}": fingerprint(content[key]) for key in (*STATES, "global_step")}
    for name in ("metrics.json", "predictions.json", "predictions_initial.json"):
        found[name] = hashlib.sha256((run_dir / name).read_bytes()).hexdigest()
    found["metrics.csv"] = fingerprint(curves(run_dir / "metrics.csv"))
    return found


def curves(file: Path) -> list[dict[str, str]]:
    """The rows of ``metrics.csv`` without seconds, which no two trainings share, and the place of the test's row."""
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    kept = [{key: value for key, value in row.items() if value and "seconds" not in key} for row in rows]
    for row in kept:
        if any(key.startswith("test/") for key in row):
            del row["step"], row["epoch"]
    return kept


@pytest.fixture(scope="module")
def short(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A training of six steps that nothing interrupts, and the seconds that it took."""
    run_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    begin = time.monotonic()
    assert server.run(run_dir, *TINY, *length(6, 3)) == 0, run_dir.with_suffix(".log").read_text()
    return run_dir, time.monotonic() - begin


def killed_and_resumed(
    server: Server, run_dir: Path, words: tuple[str, ...], moments: list[float], numbers: list[int]
) -> None:
    """Start a training once for each moment, end it then with a signal, and at last let it finish.

    Args:
        server: Starts them.
        run_dir: Their run directory.
        words: Their overrides.
        moments: Seconds after each start.
        numbers: The signals.
    """
    for moment, number in zip(moments, numbers, strict=True):
        process = server.start(run_dir, *words)
        process.join(moment)
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, number)
        process.join(120)
        assert process.exitcode in (0, -9, 128 + number, -number), run_dir.with_suffix(".log").read_text()
    assert server.run(run_dir, *words) == 0, run_dir.with_suffix(".log").read_text()


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_at_random_moments(server: Server, short: tuple[Path, float], tmp_path: Path, workers: int) -> None:
    uninterrupted, seconds = short
    draw = random.Random(workers)
    moments = [draw.uniform(0.2, 0.9) * seconds for _ in range(2)]
    words = (*TINY, *length(6, 3), f"data.num_workers={workers}")
    killed_and_resumed(server, tmp_path / "run", words, moments, [signal.SIGKILL, signal.SIGTERM])
    assert outcome(tmp_path / "run") == outcome(uninterrupted)


@pytest.mark.full
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_twenty_times(server: Server, short: tuple[Path, float], tmp_path: Path, workers: int) -> None:
    uninterrupted, seconds = short
    draw = random.Random(20 + workers)
    for attempt in range(5):
        run_dir = tmp_path / f"run{attempt}"
        moments = [draw.uniform(0.1, 1) * seconds for _ in range(4)]
        numbers = [draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]) for _ in moments]
        words = (*TINY, *length(6, 3), f"data.num_workers={workers}")
        killed_and_resumed(server, run_dir, words, moments, numbers)
        assert outcome(run_dir) == outcome(uninterrupted), (attempt, moments, numbers)


@pytest.mark.full
def test_a_longer_training_killed_again_and_again(server: Server, tmp_path: Path) -> None:
    words = (*TINY, *length(48, 12))
    begin = time.monotonic()
    assert server.run(tmp_path / "whole", *words) == 0
    seconds = time.monotonic() - begin
    draw = random.Random(48)
    moments = [draw.uniform(0.2, 0.7) * seconds for _ in range(5)]
    killed_and_resumed(server, tmp_path / "run", words, moments, [signal.SIGKILL, signal.SIGTERM] * 2 + [signal.SIGINT])
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_save_what_was_trained(
    server: Server, short: tuple[Path, float], tmp_path: Path, number: int, code: int
) -> None:
    """Once metrics.csv... the first step is over when the log of the first epoch is there; no validation has been."""
    run_dir = tmp_path / "run"
    words = (*TINY, *length(1000, 1000))
    process = server.start(run_dir, *words)
    end = time.monotonic() + 300
    while not (run_dir / ".running").exists() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(short[1])
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(120)
    log = run_dir.with_suffix(".log").read_text()
    assert process.exitcode == code, log
    assert "stopping after this step" in log
    step = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")["global_step"]
    assert f"interrupted at step {step}. The same command resumes it" in log
    assert not (run_dir / ".running").exists()
    assert json.dumps(step) != "0"
