"""Files of a data folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kemr_lightning.core.errors import UserError


def walk(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files with one of the suffixes in a folder and its subfolders, sorted. Hidden files and folders are left out.

    Args:
        folder: Where to look.
        suffixes: In lower case, with their dots. The case of a file's suffix does not matter.

    Raises:
        UserError: A name is not in the file system's encoding, so it cannot be written as text.
    """
    files = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    ]
    for path in files:
        name = path.relative_to(folder).as_posix()
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise UserError(f"{folder}: the name {name!a} is not UTF-8, so no result could name it. Rename the file")
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def read_json(path: Path, cure: str) -> Any:
    """The content of a JSON file, with or without a byte order mark.

    Args:
        path: The file.
        cure: What to do if it is not JSON, for the error.

    Raises:
        UserError: The file cannot be opened or is not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = json.loads(text)
        where = _lone_surrogate(document) if "\\u" in text else None
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror or error}. Check the path.") from error
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
