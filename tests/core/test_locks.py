"""Locks: one holder at a time, none left behind by a process that ends."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.locks import OWNER, alone_in, lock, locked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is locked there")

HOLD = """
import sys
from pathlib import Path
from kemr_lightning.core.locks import lock
held = lock(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.readline()
"""


def test_another_holder_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    held = lock(path, wait=False)
    assert held is not None
    assert path.read_bytes() == b""
    assert lock(path, wait=False) is None
    os.close(held)
    again = lock(path, wait=False)
    assert again is not None
    os.close(again)


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "locked"
    assert lock(path, wait=False) is None
    process.kill()
    process.communicate()
    held = lock(path, wait=False)
    assert held is not None
    os.close(held)


def test_one_after_the_other(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with locked(tmp_path / "lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_an_error_inside_releases(tmp_path: Path) -> None:
    def fail() -> None:
        with locked(tmp_path / "lock"):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    held = lock(tmp_path / "lock", wait=False)
    assert held is not None
    os.close(held)


def test_file_systems_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(code: int) -> None:
        def flock(*_: object) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr("fcntl.flock", flock)

    refuse(errno.ENOLCK)
    with locked(tmp_path / "lock"):
        pass
    refuse(errno.EACCES)
    with pytest.raises(PermissionError):
        lock(tmp_path / "lock")


def hold(directory: Path) -> subprocess.Popen[str]:
    """A process that works in a directory until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from kemr_lightning.core.locks import alone_in\n"
        "with alone_in(Path(sys.argv[1])): print('in', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(directory)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    return process


def test_one_process_in_a_directory_and_a_dead_one_is_succeeded(tmp_path: Path) -> None:
    with hold(tmp_path / "run") as process:
        with (
            pytest.raises(UserError, match=rf"in use by process {process.pid} on "),
            alone_in(tmp_path / "run"),
        ):
            pass
        process.kill()
        process.wait()
    assert (tmp_path / "run" / OWNER).is_file()
    with alone_in(tmp_path / "run"):
        assert str(os.getpid()) in (tmp_path / "run" / OWNER).read_text()
    assert not list((tmp_path / "run").iterdir())


def test_the_owner_on_another_host_is_named_and_a_job_of_slurm_succeeds_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = tmp_path / OWNER
    owner.write_text('{"pid": 7, "host": "another", "job": "42"}')
    with pytest.raises(UserError, match=rf"process 7 on another.*delete {re.escape(str(owner))}"), alone_in(tmp_path):
        pass
    assert owner.is_file()
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    with alone_in(tmp_path):
        pass
    assert not owner.exists()
