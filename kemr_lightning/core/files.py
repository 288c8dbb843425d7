"""Atomic file writes: a file is either complete or not there."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UNFINISHED = ".unfinished-"
"""Prefix of the names of files that are being written."""

_TEMPORARY = re.compile(re.escape(UNFINISHED) + r"[a-z0-9_]{8}(\.\w+)?")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name in the same folder, and rename it once it is complete.

    Args:
        path: The file. Its folder is created if needed.

    Yields:
        The temporary path to write to, with the same suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=UNFINISHED, suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp gives the owner alone access
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
