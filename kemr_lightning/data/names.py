"""Names of files that programs write in different ways: Unicode forms, upper and lower case, ``%20``, backslashes."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from kemr_lightning.core.errors import UserError


class AmbiguousNameError(UserError):
    """Several files could be meant by a name that none has exactly."""


def same_name(name: str) -> str:
    """What two names have in common that differ in Unicode form, case, URL escapes or the kind of slash alone."""
    if "%" in name:
        name = unquote(name)
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    return name.replace("\\", "/").casefold()


def find_alike(name: str, places: Sequence[Path], limit: Path) -> Path | None:
    """Find a file that no place has under exactly this name, see `same_name`.

    Args:
        name: Path relative to one of the places; slashes separate folders.
        places: Folders to look into.
        limit: The file may not lie outside this folder.

    Returns:
        The only file that is meant, below ``limit`` as it was given, or None.

    Raises:
        AmbiguousNameError: Several files could be meant.
    """
    top = os.path.normpath(limit.absolute())
    found: list[Path] = []
    for place in places:
        for spelt in dict.fromkeys((name, unquote(name))):
            there = Path(os.path.normpath(place.absolute() / spelt))
            if there.is_relative_to(top):
                found += _alike(Path(top), there.relative_to(top).parts)
    distinct = sorted(set(found))
    if len(distinct) > 1:
        listed = ", ".join(path.relative_to(top).as_posix() for path in distinct[:3])
        more = ", ..." if len(distinct) > 3 else ""
        raise AmbiguousNameError(f"{name!r} may be any of {len(distinct)} files: {listed}{more}. Rename all but one.")
    return limit / distinct[0].relative_to(top) if distinct else None


def _alike(folder: Path, parts: Sequence[str]) -> list[Path]:
    """The files below a folder whose path is like that of the given parts."""
    if not parts:
        return []
    wanted = same_name(parts[0])
    try:
        with os.scandir(folder) as entries:
            matching = [Path(entry.path) for entry in entries if same_name(entry.name) == wanted]
    except (OSError, ValueError):
        return []
    if len(parts) == 1:
        return [path for path in matching if path.is_file()]
    return [found for path in matching if path.is_dir() for found in _alike(path, parts[1:])]
