"""The images of a folder, found by the names that exports give them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from kemr_lightning.data.folder import walk
from kemr_lightning.data.image import IMAGE_SUFFIXES
from kemr_lightning.data.split import part_named

_UPLOAD = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""


class ImageIndex:
    """The image files of a folder by the last part of their names, with and without suffix."""

    def __init__(self, root: Path) -> None:
        """List the images.

        Args:
            root: The data root.
        """
        self.root = root
        self.files = walk(root, IMAGE_SUFFIXES)
        self._named: dict[str, list[Path]] = defaultdict(list)
        for path in self.files:
            for key in {path.name, path.stem}:
                self._named[key].append(path)

    def find(self, stated: str, near: Path) -> Path | None:
        """The image that an export means.

        Args:
            stated: Path, address or name, with or without suffix.
            near: The annotation file. Of several images of one name, that whose folders have most in common with the
                stated path counts, then that nearest to this file.

        Returns:
            The file; None if there is none, or if two are equally likely.
        """
        parts = PurePosixPath(unquote(stated.rpartition("?d=")[2]).replace("\\", "/")).parts
        if not parts:
            return None
        found = self._named.get(parts[-1]) or self._named.get(_UPLOAD.sub("", parts[-1], count=1), [])
        ranked = sorted(((_common(path.parts, parts), _near(path, near)), path) for path in found)
        if not ranked or (len(ranked) > 1 and ranked[-1][0] == ranked[-2][0]):
            return None
        return ranked[-1][1]


def _common(path: tuple[str, ...], stated: tuple[str, ...]) -> int:
    """How many folders before the name two paths share, from the end; suffixes may differ."""
    count = 0
    for one, other in zip(reversed(path[:-1]), reversed(stated[:-1]), strict=False):
        if one != other:
            break
        count += 1
    return count


def _near(path: Path, near: Path) -> int:
    """How many leading folders two files share, and whether they are of one part."""
    shared = 0
    for one, other in zip(path.parts, near.parts, strict=False):
        if one != other:
            break
        shared += 1
    return shared + 2 * (part_of(path.parts) is not None and part_of(path.parts) == part_of(near.parts))


def part_of(folders: Iterable[str]) -> str | None:
    """The part that one of the folders, the innermost first, is named for; None if there is none."""
    return next((part for name in reversed(list(folders)) if (part := part_named(name)) is not None), None)
