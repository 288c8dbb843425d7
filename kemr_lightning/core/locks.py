"""Locks between processes: files that are locked, not files that are there, so that a killed process leaves none."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WITHOUT = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
"""What file systems say that know no locks; there, work goes on without them."""


def lock(path: Path, wait: bool = True) -> int | None:
    """Lock a file, which is made and stays.

    Args:
        path: The file. Nothing is ever written to it.
        wait: Whether to wait for a process that has it.

    Returns:
        A descriptor, which holds the lock until it is closed or the process ends; None if another process has it.
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
    """Let one process after the other do something.

    Args:
        path: See `lock`.
    """
    held = lock(path)
    try:
        yield
    finally:
        if held is not None:
            os.close(held)
