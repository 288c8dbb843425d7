"""Files of a data folder, and the links in it: those that lead out of it are followed only if that is wanted."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.encoding import encoding_of
from kemr_lightning.data.image import IMAGE_SUFFIXES

log = logging.getLogger(__name__)

READ_SUFFIXES = (*IMAGE_SUFFIXES, ".json")
"""Endings of the files that are read in a data folder, in lower case."""

SHOWN_LINKS = 3
"""How many links a message names."""


def check_links(root: Path, follow: bool, suffixes: Sequence[str]) -> None:
    """Check the links in a data folder before anything in it is read.

    Links that stay inside the folder are followed. One that leads out of it could show anything on this machine to
    whoever gets the results, so it is followed only if that is wanted, and then said. Links that lead nowhere, and
    those to a folder that they lie in, are passed over with a warning.

    Args:
        root: The data folder, which may itself be a link.
        follow: Whether links that lead out of it are followed.
        suffixes: Endings of the files that are read, in lower case; links with other endings do not matter.

    Raises:
        SettingError: A link leads out of the folder, and ``follow`` is False (``"follow_links"``).
    """
    inside = root.resolve()
    out: list[str] = []
    nowhere: list[str] = []
    for folder in folders_below(root, inside):
        for path in sorted(folder.iterdir()):
            if not path.is_symlink() or path.name.startswith("."):
                continue
            real, name = _real(path), path.relative_to(root).as_posix()
            if real is None:
                nowhere += [name] if path.suffix.lower() in (*suffixes, "") else []
            elif real.is_dir() or path.suffix.lower() in suffixes:
                if not real.is_relative_to(inside):
                    out.append(f"{name} -> {real}")
                elif real.is_dir() and folder.resolve().is_relative_to(real):
                    nowhere.append(name)
    if nowhere:
        log.warning("%s: %d links lead nowhere or to a folder that they lie in, passed over: %s", root, *_told(nowhere))
    if out and not follow:
        problem = f"does not follow links out of {root}, and there are {len(out)}: {_told(out)[1]}"
        raise SettingError("follow_links", "false", problem, "Copy what they name, or give true")
    if out:
        log.warning("%s: %d links that lead out of it are followed: %s", root, *_told(out))


def _told(names: Sequence[str]) -> tuple[int, str]:
    return len(names), ", ".join(names[:SHOWN_LINKS]) + (", ..." if len(names) > SHOWN_LINKS else "")


def _real(path: Path) -> Path | None:
    """Where a path leads; None if nowhere."""
    try:
        return path.resolve(strict=True)
    except (OSError, RuntimeError):  # a loop of links is a RuntimeError
        return None


def folders_below(folder: Path, within: Path | None = None) -> Iterator[Path]:
    """A folder and the folders below it, each once even if several links lead to it. Hidden ones are left out.

    Args:
        folder: Where to begin.
        within: A resolved folder; links that lead out of it are not entered. None enters all links.

    Raises:
        UserError: A folder cannot be read.
    """
    waiting, links, seen = deque([folder]), deque[Path](), {folder.resolve()}
    while waiting or links:
        # Links come last: a folder that lies here is known by its own name, whatever else leads to it.
        place = waiting.popleft() if waiting else links.popleft()
        real = place.resolve()
        linked = place.is_symlink() and place != folder
        if place != folder and (real in seen or (linked and place.parent.resolve().is_relative_to(real))):
            continue
        if linked and within is not None and not real.is_relative_to(within):
            continue
        seen.add(real)
        try:
            children = sorted(child for child in place.iterdir() if not child.name.startswith("."))
        except OSError as error:
            raise UserError(f"cannot read the folder {place}: {error.strerror or error}. Check its rights") from error
        yield place
        for child in children:
            if child.is_symlink() and _real(child) is None:
                continue
            if child.is_dir():
                (links if child.is_symlink() else waiting).append(child)


def walk(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files with one of the suffixes in a folder and its subfolders, sorted. Hidden files and folders are left out.

    Links are followed, see `check_links` and `folders_below`.

    Args:
        folder: Where to look.
        suffixes: In lower case, with their dots. The case of a file's suffix does not matter.

    Raises:
        UserError: A folder cannot be read, or a name is not in the file system's encoding, so it cannot be written as
            text.
    """
    files = [
        path
        for place in (folders_below(folder) if folder.is_dir() else ())
        for path in place.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and _real(path) and path.is_file()
    ]
    for path in files:
        name = path.relative_to(folder).as_posix()
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UserError(f"{folder}: the name {name!a} is not UTF-8, so no result could name it. Rename the file")
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def read_text(path: Path) -> str:
    """The content of a text file in UTF-8, with or without a byte order mark.

    Raises:
        UserError: The file cannot be opened, or is in another encoding; the message says how to convert it.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror or error}. Check the path.") from error
    encoding = encoding_of(data)
    if encoding is not None:
        raise UserError(f"{path} is not UTF-8 but {encoding.described}. {encoding.cure(path)}")
    return data.decode("utf-8-sig")


def read_json(path: Path, cure: str) -> Any:
    """The content of a JSON file, with or without a byte order mark.

    Args:
        path: The file.
        cure: What to do if it is not JSON, for the error.

    Raises:
        UserError: The file cannot be opened, is in another encoding than UTF-8, or is not JSON.
    """
    text = read_text(path)
    try:
        document = json.loads(text)
        where = _lone_surrogate(document) if "\\u" in text else None
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is not valid JSON ({reason}). {cure}") from error
    if where is not None:
        raise UserError(f"{path}: {where} has half a character (\\ud800 to \\udfff), which no file can hold. {cure}")
    return document


def _lone_surrogate(value: Any, where: str = "") -> str | None:
    """Where in a JSON document a string cannot be written as UTF-8, as in ``shapes[2].label``; None if nowhere."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return where or "its text"
    elif isinstance(value, dict):
        for key, part in value.items():
            if _lone_surrogate(key) is not None:
                return f"a key in {where}" if where else "a key"
            found = _lone_surrogate(part, f"{where}.{key}" if where else key)
            if found is not None:
                return found
    elif isinstance(value, list):
        for number, part in enumerate(value):
            found = _lone_surrogate(part, f"{where}[{number}]")
            if found is not None:
                return found
    return None
