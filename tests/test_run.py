"""The command line as a user meets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf.errors import InterpolationKeyError

from kemr_lightning.core.errors import UserError
from kemr_lightning.tasks import run, user_message
from tests.conftest import CONF, compose

ROOT = CONF.parent


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``run.py`` as a user does, from any directory."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    words = [sys.executable, str(ROOT / "run.py"), *arguments]
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_wrong_folder_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = command("experiment=kemr_tiny", "data.root=no such folder", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert "no such folder" in line
    (run_dir,) = (tmp_path / "runs" / "kemr_tiny" / "train").iterdir()
    assert (run_dir / "config.yaml").is_file()
    assert not (run_dir / "checkpoints").exists()


def test_user_error_is_found_behind_what_wraps_it() -> None:
    wrapped = RuntimeError("while building")
    wrapped.__cause__ = UserError("no file. Give one")
    assert user_message(wrapped) == "no file. Give one"


def test_message_is_one_line() -> None:
    assert user_message(UserError("two\n  lines")) == "two lines"


def test_faults_of_the_program_keep_their_traceback() -> None:
    assert user_message(ValueError("bug")) is None


def test_wrong_interpolation_is_the_users() -> None:
    with pytest.raises(InterpolationKeyError) as caught:
        _ = compose("name=${nothing}").name
    assert "nothing" in str(user_message(caught.value))


def test_unknown_task_function_raises(tmp_path: Path) -> None:
    config = compose("task.function=kemr_lightning.tasks.train.nothing", f"paths.run_dir={tmp_path}")
    with pytest.raises(Exception, match="nothing"):
        run(config)


def test_a_dead_worker_of_a_loader_is_one_line() -> None:
    line = user_message(RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed. "))
    assert line is not None
    assert line.startswith(
        "a worker process that loads images died (killed by signal: Killed). If the memory was full, "
    )
    assert "data.num_workers" in line
