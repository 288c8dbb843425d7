"""The folders of a data set that stand for its parts, and those that only look as if they did."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.split import SPLITS, part_mentioned, part_named

log = logging.getLogger(__name__)

CURE = "Name the folders train/, val/ and test/, right in the data root"


def part_folders(root: Path) -> dict[str, Path]:
    """The folders right in a data folder that stand for parts, in the order of `SPLITS`; empty ones do not count.

    Args:
        root: The data root; it may be missing.

    Raises:
        UserError: Two folders stand for the same part.
    """
    found: dict[str, Path] = {}
    for folder in _folders(root):
        part = part_named(folder.name)
        if part is None or not any(folder.iterdir()):
            continue
        if part in found:
            both = f"{found[part].name}/ and {folder.name}/"
            raise UserError(f"{root}: {both} both stand for the part {part}. Join them, or rename one")
        found[part] = folder
    return {part: found[part] for part in SPLITS if part in found}


def unused_folders(root: Path, used: Collection[Path]) -> list[str]:
    """Names of the folders right in a data folder that look like parts and are not used.

    Args:
        root: The data root.
        used: The folders of the parts.
    """
    return [
        folder.name
        for folder in _folders(root)
        if folder not in used and part_mentioned(folder.name) and any(folder.iterdir())
    ]


def warn_of_unused(root: Path, names: Collection[str]) -> None:
    """Warn of folders, or files, that look like parts and are not used."""
    if names:
        listed = ", ".join(f"{name}/" if (root / name).is_dir() else name for name in names)
        log.warning("%s: %s look like parts of the data set and are not used. %s", root, listed, CURE)


def refuse_hidden_parts(root: Path) -> None:
    """Refuse a folder without parts that has folders for two or more of them by other names, or one level below.

    All its images would be one set: test images would be trained on.

    Raises:
        UserError: It has.
    """
    below = [inner for folder in _folders(root) for inner in _folders(folder) if part_named(inner.name)]
    for folders, part_of in ((_folders(root), part_mentioned), (below, part_named)):
        looking = {part: folder for folder in folders if (part := part_of(folder.name)) and any(folder.iterdir())}
        if len(looking) > 1:
            names = " and ".join(sorted(f"{folder.relative_to(root).as_posix()}/" for folder in looking.values()))
            raise UserError(f"{root}: {names} look like parts and would be read as one set. {CURE}")


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
