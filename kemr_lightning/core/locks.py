"""Locks between processes. A file is locked, rather than created, so that a killed process leaves no lock behind."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
