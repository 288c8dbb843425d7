"""Files of a data folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.encoding import encoding_of


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
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is not valid JSON ({reason}). {cure}") from error
