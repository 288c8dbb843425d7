"""Where a study is kept: a journal file or a database, which outlives its process and which several may share."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.locks import lock

DATABASE_TIMEOUT = 120.0
"""Seconds to wait for other processes that write to an SQLite database."""

TRIES = 5
"""Attempts to open a database."""


@contextmanager
def one_at_a_time(place: str) -> Iterator[None]:
    """Let processes that share a study begin one after another: they create its tables and queue its first trial.

    Args:
        place: See `open_storage`. There is no lock for a database that is not a file of this machine; the repeated
            attempts of `open_storage` have to suffice.

    Raises:
        SettingError: The place cannot be understood or written to.
    """
    try:
        file = _file(place)
        held = None if file is None else lock(file.with_name(f".{file.name}.begin"))
    except (OSError, SQLAlchemyError) as error:
        raise _cannot_open(place, error) from error
    try:
        yield
    finally:
        if held is not None:
            os.close(held)


def open_storage(place: str) -> BaseStorage:
    """Open a storage that several processes may use at once.

    Args:
        place: A file, kept as Optuna's journal, or a database URL such as ``sqlite:///study.db``.

    Raises:
        SettingError: It cannot be opened.
    """
    try:
        file = _file(place)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        if "://" in place:
            return _database(place)
        return JournalStorage(JournalFileBackend(place))
    except Exception as error:
        raise _cannot_open(place, error) from error


def _file(place: str) -> Path | None:
    """The file of a journal or of an SQLite database; None for other databases and for one in memory."""
    if "://" not in place:
        return Path(place)
    url = make_url(place)
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database not in (None, ":memory:") else None


def _cannot_open(place: str, error: Exception) -> SettingError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return SettingError("storage", place, f"cannot be opened ({reason})", "Give another file")


def _database(url: str) -> RDBStorage:
    """Open a database. The first process creates the tables of a new one; others may find them half made and wait."""
    # SQLite lets one process write at a time; the default is to wait for only 5 s.
    options = {"connect_args": {"timeout": DATABASE_TIMEOUT}} if url.startswith("sqlite") else None
    for attempt in range(TRIES):
        try:
            return RDBStorage(url, engine_kwargs=options)
        except (SQLAlchemyError, AssertionError):  # Optuna asserts that a table has its row
            if attempt == TRIES - 1:
                raise
            time.sleep(random.uniform(0.1, 0.5) * (attempt + 1))
    raise AssertionError("the last attempt returns or raises")
