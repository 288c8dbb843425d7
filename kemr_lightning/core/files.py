"""Atomic file writes: a file is complete and on the disk, or as it was before."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kemr_lightning.core.errors import UserError

UNFINISHED = ".unfinished-"
"""Prefix of the names of files that are being written."""

_FULL = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space",
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f)",
}
_OF_THE_DISK = {
    **_FULL,
    errno.EROFS: "Choose another place",
    errno.EACCES: "Choose another place",
    errno.EPERM: "Choose another place",
    errno.EIO: "Check the disk",
    errno.ENOTDIR: "Choose another place",
}
"""Error codes that say something of the disk and nothing of the program -> what helps."""

_TEMPORARY = re.compile(re.escape(UNFINISHED) + r"[a-z0-9_]{8}(\.\w+)?")


class WriteError(UserError, OSError):
    """A file cannot be written, for a reason that the user can remove. What was there before is unchanged."""


def disk_trouble(error: OSError, path: str | Path | None = None) -> WriteError | None:
    """The one line to show for an error of the file system, or None if the disk is not to blame.

    Args:
        error: What a write has raised.
        path: The file that could not be written; None for the one that the error names.
    """
    cure = _OF_THE_DISK.get(error.errno or 0)
    if cure is None or isinstance(error, WriteError):
        return None
    name = error.filename if path is None else path
    what = "a file" if name is None else str(name)
    return WriteError(f"{what} cannot be written ({os.strerror(error.errno or 0)}). {cure} and run the command again")


@contextmanager
def atomic_write(path: Path, durable: bool = True) -> Iterator[Path]:
    """Write a file under a temporary name in the same folder, and rename it once it is complete and on the disk.

    Args:
        path: The file. Its folder is created if needed.
        durable: Whether to wait until the disk has it, so that it also survives a power cut. Without, a power cut may
            leave an empty file: for files whose readers notice that, and that can be computed again.

    Yields:
        The temporary path to write to, with the same suffix.

    Raises:
        WriteError: The disk is full, write-protected or broken. The old file, if there was one, is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=UNFINISHED, suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)  # mkstemp gives the owner alone access
            if durable:
                _flush(temporary)
            temporary.replace(path)
            if durable:
                _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        # A copy of a file names its source even if the target's disk is full.
        elsewhere = error.filename is not None and Path(error.filename).parent not in (path.parent, path.parent.parent)
        trouble = disk_trouble(error, path)
        if trouble is None or (elsewhere and error.errno not in _FULL):
            raise
        raise trouble from error


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content atomically.

    Raises:
        WriteError: See `atomic_write`.
    """
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)


def _flush(path: Path) -> None:
    """Wait until the disk has a file's content, or a folder's names."""
    if sys.platform == "win32" and path.is_dir():
        return  # Windows cannot open folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot flush folders
            raise
    finally:
        os.close(handle)


def remove_unfinished(folder: Path, older_than: float = 0.0) -> None:
    """Remove unfinished files of killed processes from a folder and its sub-folders.

    Args:
        folder: The folder.
        older_than: Seconds since the last change of a file to remove; 0 if no other process can be writing.
    """
    for path in folder.rglob(f"{UNFINISHED}*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file() and time.time() - path.stat().st_mtime >= older_than:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def finite(data: Any) -> Any:
    """Data as JSON can hold them: NaN and infinities become None, tuples lists; all else stays as it is.

    Args:
        data: A value, or nested dictionaries, lists and tuples of values.
    """
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(value) for value in data]
    return data


def write_json(path: Path, data: Any, indent: int | None = None) -> None:
    """Write JSON atomically. Floats keep full precision; NaN and infinities become null."""
    write_text(path, json.dumps(finite(data), indent=indent, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table as CSV atomically. Missing values, None, NaN and infinities become empty cells."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, columns, restval="")
        table.writeheader()
        table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _cell(value: Any) -> Any:
    """Escape a cell that a spreadsheet would run as a formula: names of files and classes come from other people."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(value):
        return f"'{value}"
    return finite(value)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text)) and text == text.strip()
    except ValueError:
        return False
