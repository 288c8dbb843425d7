"""A W&B run has the mode that was asked for or a lesser one, says so in one line, and never asks or waits."""

from __future__ import annotations

import http.server
import logging
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.output import wandb_run
from kemr_lightning.output.wandb_run import (
    RunLogger,
    attempt,
    finish_run,
    log_checkpoint,
    log_files,
    reachable,
    run_of,
    wanted_mode,
)
from tests.conftest import CONF
from tests.helpers import read_run

ROOT = CONF.parent


@pytest.mark.parametrize(
    ("offline", "variable", "expected"),
    [
        (None, None, "offline"),
        (None, "online", "online"),
        (None, "offline", "offline"),
        (None, "dryrun", "offline"),
        (None, "disabled", "disabled"),
        (False, None, "online"),
        (False, "offline", "online"),
        (False, "disabled", "disabled"),
        (True, None, "offline"),
        (True, "online", "offline"),
    ],
)
def test_mode(offline: bool | None, variable: str | None, expected: str) -> None:
    assert wanted_mode(offline, {} if variable is None else {"WANDB_MODE": variable}) == expected


def test_an_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(UserError, match="WANDB_MODE=sometimes"):
        RunLogger()


def test_two_runs_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own id, folder and artifacts, and leaves nothing in the environment."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    file = tmp_path / "file.txt"
    file.write_text("content")
    ids = set()
    for number in range(2):
        directory = tmp_path / f"run {number}"
        directory.mkdir()
        logger = RunLogger(project="test", save_dir=directory, log_model=True, config={"number": number})
        logger.log_metrics({"value": number + 0.5}, step=3)
        log_files(logger.experiment, [file], "thing", "kind", "in words", {"a": 1})
        ids.add(logger.version)
        finish_run({"end": number})
        run = read_run(directory)
        assert run.id in ids
        assert run.config["number"] == number
        assert run.values("value") == [number + 0.5]
        assert run.values("trainer/global_step") == [3]
        assert run.summary["end"] == number
        assert run.exit_code == 0
        (artifact,) = run.artifact("kind")
        assert (artifact.name, artifact.description) == ("thing", "in words")
        (entry,) = artifact.manifest.contents
        assert Path(entry.local_path).is_relative_to(directory)
    assert len(ids) == 2
    assert "WANDB_MODE" not in os.environ
    assert "WANDB_DATA_DIR" not in os.environ


def test_a_failed_task_is_a_failed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert RunLogger(project="test", save_dir=tmp_path).experiment is not None
    finish_run(failed=True)
    assert read_run(tmp_path).exit_code == 1
    finish_run()  # nothing is left to finish


@contextmanager
def server(answers: bool) -> Iterator[str]:
    """A server that refuses whatever it is asked, or accepts connections and says nothing."""
    if answers:
        running = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        running.server_close()
        return
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


def test_what_answers_at_all_is_reachable() -> None:
    with server(answers=True) as host:
        assert reachable(host)
    with server(answers=False) as host:
        start = time.monotonic()
        assert not reachable(host, seconds=0.3)
        assert time.monotonic() - start < 5
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not reachable(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert not reachable("no address")


def test_a_key_of_the_environment_or_of_a_login(tmp_path: Path) -> None:
    host, file = "https://api.example.org", tmp_path / "netrc"
    nowhere = {"NETRC": str(file)}
    assert not wandb_run._key_elsewhere(host, nowhere)
    assert wandb_run._key_elsewhere(host, {**nowhere, "WANDB_API_KEY": "k"})
    file.write_text("machine api.example.com login user password secret\n")
    file.chmod(0o600)
    assert not wandb_run._key_elsewhere(host, nowhere)
    file.write_text("machine api.example.org login user password secret\n")
    assert wandb_run._key_elsewhere(host, nowhere)
    file.write_text("machine")
    assert not wandb_run._key_elsewhere(host, nowhere)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("the server\nsays no.", "the server says no"),
        ("<no message>", "the server refused the key or did not accept the run"),
        ("<no message> (<Response [401]>)", "the server refused the key or did not accept the run"),
    ],
)
def test_a_server_that_refuses_leaves_an_offline_run(
    error: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import wandb

    monkeypatch.delenv("WANDB_MODE", raising=False)
    real = wandb.init

    def init(**options: object) -> object:
        if options["mode"] == "online":
            raise wandb.errors.CommError(error)
        return real(**options)  # type: ignore[arg-type]

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb_run, "why_not_online", lambda: None)
    with caplog.at_level(logging.WARNING):
        run = RunLogger(offline=False, project="test", save_dir=tmp_path).experiment
    finish_run()
    assert run.offline
    (line,) = [item.getMessage() for item in caplog.records if item.name == wandb_run.__name__]
    assert line.startswith(f"W&B: {said}. The run is logged offline; `wandb sync ")


SCRIPT = """
import logging, sys, time
logging.basicConfig(format="%(message)s")
from kemr_lightning.output.wandb_run import RunLogger, finish_run
start = time.monotonic()
run = RunLogger(project="test", save_dir=sys.argv[1]).experiment
finish_run()
print(f"offline {run.offline}, terminal {sys.stdin.isatty()}, {time.monotonic() - start:.1f} s")
"""


@pytest.mark.parametrize("terminal", [True, False])
def test_without_a_key_nothing_is_asked(tmp_path: Path, terminal: bool) -> None:
    """In a process of its own, whose input is a terminal that never answers, or no terminal."""
    hidden = {"WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "NETRC"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "WANDB_MODE": "online"}
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env=environment,
        stdin=theirs if terminal else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs if terminal else subprocess.STDOUT,
        timeout=600,
        text=True,
        check=True,
    )
    os.set_blocking(ours, False)
    said = done.stdout + (os.read(ours, 65536).decode() if terminal else "")
    os.close(ours)
    os.close(theirs)
    assert f"offline True, terminal {terminal}" in said
    assert said.count("there is no API key for") == 1
    assert list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))


class Experiment:
    """A run that keeps what it is given."""

    id = "abc"

    def __init__(self) -> None:
        self.artifacts: list[Any] = []

    def log_artifact(self, artifact: Any) -> None:
        self.artifacts.append(artifact)


@pytest.mark.parametrize("log_model", [True, False])
def test_a_checkpoint_is_an_artifact_if_checkpoints_are_asked_for(tmp_path: Path, log_model: bool) -> None:
    run, file = Experiment(), tmp_path / "best.ckpt"
    file.write_bytes(b"weights")
    logger = RunLogger(offline=True, project="test", save_dir=tmp_path, log_model=log_model, experiment=run)
    trainer = SimpleNamespace(loggers=[object(), logger], is_global_zero=True)
    log_checkpoint(trainer, file)  # type: ignore[arg-type]
    assert [(each.name, each.type, set(each.manifest.entries)) for each in run.artifacts] == [
        ("model-abc", "model", {"best.ckpt"})
    ] * log_model
    assert run_of(trainer) is run  # type: ignore[arg-type]
    assert run_of(SimpleNamespace(loggers=[object()])) is None  # type: ignore[arg-type]


def test_what_cannot_be_logged_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise OSError("disk full")

    attempt(broken)
    assert "W&B could not log something" in caplog.text
    assert "disk full" in caplog.text
