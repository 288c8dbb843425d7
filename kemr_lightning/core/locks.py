"""Locks between processes. A file is locked, not only created, so that a killed process leaves no lock behind."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import disk_trouble

OWNER = ".running"
"""The file in a directory that says which process works in it."""

JOB = "SLURM_JOB_ID"

_WITHOUT = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""Error codes of file systems without locks, on which nothing is locked."""


def lock(path: Path, wait: bool = True) -> int | None:
    """Lock a file, which is created if needed and not removed. On Windows nothing is locked.

    Args:
        path: The file. Nothing is ever written to it.
        wait: Whether to wait while another process holds the lock.

    Returns:
        A file descriptor that holds the lock until it is closed or the process ends; None if another process holds it.

    Raises:
        OSError: The file cannot be created or locked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    held = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    if sys.platform == "win32":
        return held
    import fcntl

    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(held)
        return None
    except OSError as error:
        if error.errno not in _WITHOUT:
            os.close(held)
            raise
    return held


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock while the body runs, so that processes run it one after the other.

    Args:
        path: See `lock`.
    """
    held = lock(path)
    try:
        yield
    finally:
        if held is not None:
            os.close(held)


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Be the only process that works in a directory while the body runs.

    The file `OWNER` in it names the process and its host, and is locked and in the end removed. A process that was
    killed leaves the file, but not the lock: on the same host it is taken over. Whether a process of another host still
    runs cannot be seen from here, except that Slurm runs a job again only when its earlier attempt has ended.

    Args:
        directory: The directory, which is created.

    Raises:
        UserError: Another process works there, or may do so on another host.
        WriteError: The directory cannot be written to.
    """
    path = directory / OWNER
    try:
        held = _held(path)
    except OSError as error:
        trouble = disk_trouble(error, path)
        if trouble is None:
            raise
        raise trouble from error
    try:
        _refuse_others(path, _owner(held))
        os.ftruncate(held, 0)
        os.pwrite(held, json.dumps(_self()).encode(), 0)
    except BaseException:
        os.close(held)
        raise
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(held)


def _held(path: Path) -> int:
    """A file descriptor that holds the lock of the file that has this name.

    The lock is one of `fcntl.lockf`: the worker processes of loaders, which are forked, do not inherit it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        held = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _lock_alone(held):
            owner = _owner(held)
            os.close(held)
            raise UserError(_works_there(path, owner))
        try:
            if os.path.samestat(os.fstat(held), path.stat()):
                return held
        except FileNotFoundError:
            pass
        os.close(held)  # its owner has just finished and removed it


def _lock_alone(held: int) -> bool:
    """Lock a file for this process alone, if no other has; where there are no locks, nothing is locked."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        if error.errno not in _WITHOUT:
            raise
    return True


def _self() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "job": os.environ.get(JOB)}


def _owner(held: int) -> dict[str, Any]:
    """What a file says of its owner; empty if it says nothing."""
    try:
        found = json.loads(os.pread(held, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refuse_others(path: Path, owner: dict[str, Any]) -> None:
    """Refuse a file, not locked, that was left by a process of another host, unless it was of the same Slurm job."""
    me = _self()
    if not owner or owner.get("host") == me["host"] or (me["job"] is not None and owner.get("job") == me["job"]):
        return
    raise UserError(_works_there(path, owner))


def _works_there(path: Path, owner: dict[str, Any]) -> str:
    what = f"process {owner.get('pid', '?')} on {owner.get('host', 'this host')}"
    if owner.get("host") in (None, socket.gethostname()):
        return f"{path.parent} is in use by {what}. Wait for its end, or choose another run directory"
    return (
        f"{path.parent} is in use by {what}, or was when that host stopped. If it does not run there any more, delete "
        f"{path}; otherwise choose another run directory"
    )
