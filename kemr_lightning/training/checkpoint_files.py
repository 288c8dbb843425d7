"""Checkpoint files that are whole or not there, and that show any later damage.

A file is what ``torch.save`` makes, a zip archive, whose comment is the SHA-256 of all bytes before it: every program
that reads PyTorch's files reads it. (The archive's own CRC-32 sums are not checked by ``torch.load``, and do not cover
its directory.) Files of earlier versions and of other programs have no such comment; their CRC-32 sums are checked.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor
from typing_extensions import override

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import WriteError, atomic_write

PREFIX = b"kemr-sha256:"
"""Begins the archive's comment; 64 hexadecimal digits follow."""
MARK = "checksum"
"""Key of the content that says that the file ends with a checksum: one whose checksum is cut off is not an old file."""

_TRAILER = len(PREFIX) + 64
_END = b"PK\x05\x06"
_END_SIZE = 22
_UNREADABLE = (RuntimeError, pickle.UnpicklingError, EOFError, OSError, LookupError, ValueError, TypeError)
_ADVICE = "Copy it again, or use another one"


def write_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint with its checksum, whole and flushed to the disk, or leave the old file as it is.

    Args:
        content: What ``torch.save`` can save.
        path: The file; its folder is created.

    Raises:
        WriteError: There is no space, or the disk cannot be written to.
    """
    buffer = io.BytesIO()
    torch.save({**content, MARK: "sha256"}, buffer)
    view = buffer.getbuffer()
    if bytes(view[-_END_SIZE:][:4]) != _END:
        raise RuntimeError("torch.save has not written a zip archive without a comment")
    view[-2:] = _TRAILER.to_bytes(2, "little")
    digest = hashlib.sha256(view)
    digest.update(PREFIX)
    try:
        with atomic_write(Path(path)) as temporary, temporary.open("wb") as stream:
            stream.write(view)
            stream.write(PREFIX + digest.hexdigest().encode())
    except WriteError as error:
        kept = "the earlier one is unchanged" if Path(path).is_file() else "there was none before"
        raise WriteError(f"{error} ({kept})") from error


def load_whole(path: str | Path) -> Any:
    """Load a checkpoint on the CPU if it is undamaged.

    Args:
        path: The file.

    Returns:
        What was saved.

    Raises:
        UserError: The file does not exist, is not a checkpoint, or is damaged: cut off, with changed bytes, or with
            weights that are not finite.
    """
    file = Path(path)
    if not file.is_file():
        raise UserError(f"checkpoint {file} does not exist. Give the .ckpt file of a finished training")
    if not _is_archive(file):
        what = "is empty" if file.stat().st_size == 0 else "is damaged or not a PyTorch file"
        raise UserError(f"checkpoint {file} {what}. {_ADVICE}")
    has_checksum = _check_bytes(file)
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"checkpoint {file} cannot be read ({reason[:120]}). {_ADVICE}") from error
    if isinstance(content, Mapping):
        if MARK in content and not has_checksum:
            raise UserError(f"checkpoint {file} is damaged: its checksum is missing. {_ADVICE}")
        _check_weights(content, file)
    return content


def _is_archive(file: Path) -> bool:
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:  # raised, instead of False, if the archive claims to have several parts
        return False


def _check_bytes(file: Path) -> bool:
    """Whether a file has a checksum, which then fits; of a file without, the archive's own sums are checked."""
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            stream.seek(max(size - _TRAILER, 0))
            trailer = stream.read()
            if trailer.startswith(PREFIX):
                stream.seek(0)
                if _digest(stream, size - 64) != trailer[len(PREFIX) :]:
                    raise UserError(f"checkpoint {file} is damaged: its checksum does not fit. {_ADVICE}")
                return True
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except UserError:
        raise
    except Exception as error:  # whatever a library stumbles over in a damaged archive
        raise UserError(f"checkpoint {file} is damaged ({str(error)[:120]}). {_ADVICE}") from error
    if damaged is not None:
        raise UserError(f"checkpoint {file} is damaged: {damaged} in it has changed. {_ADVICE}")
    return False


def _digest(stream: Any, count: int) -> bytes:
    """The SHA-256 of a stream's next ``count`` bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    while count > 0:
        block = stream.read(min(count, 1 << 20))
        if not block:
            break
        digest.update(block)
        count -= len(block)
    return digest.hexdigest().encode()


def _check_weights(content: Mapping[str, Any], file: Path) -> None:
    """Refuse weights that are not finite: nothing can be done with them."""
    for key in ("state_dict", "current_model_state"):
        weights = content.get(key)
        for name, value in weights.items() if isinstance(weights, Mapping) else ():
            if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise UserError(
                    f"checkpoint {file} has weights that are not finite numbers ({name}): its training has diverged. "
                    "Use another one"
                )


class CheckpointFiles(CheckpointIO):
    """Lets Lightning write and read checkpoints as this module does.

    Lightning's own writer goes through the folder of temporary files: where that is on another file system, a crash or
    a full disk leaves a broken file in place of the old one.
    """

    @override
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        write_checkpoint(checkpoint, os.fspath(path))

    @override
    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        content: dict[str, Any] = load_whole(os.fspath(path))
        return content

    @override
    def remove_checkpoint(self, path: str | os.PathLike[str]) -> None:
        Path(path).unlink(missing_ok=True)
