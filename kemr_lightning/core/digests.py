"""Hexadecimal SHA-256 digests of files, data and settings."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from pathlib import Path


def file_digest(path: str | Path) -> str:
    """The SHA-256 of a file's content.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def data_digest(data: bytes) -> str:
    """The SHA-256 of data; the same as `file_digest` of a file with this content."""
    return hashlib.sha256(data).hexdigest()


def remembered_digest(path: str | Path) -> str:
    """`file_digest` for large files: computed once per process, as long as the file's size and time do not change.

    Raises:
        OSError: The file cannot be read.
    """
    file = Path(path).resolve()
    state = file.stat()
    return _remembered(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=16)
def _remembered(file: Path, size: int, changed: int) -> str:
    del size, changed
    return file_digest(file)


def settings_digest(*parts: object) -> str:
    """A short digest of settings, as JSON; values that JSON cannot hold count by their text."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return data_digest(text.encode())[:20]
