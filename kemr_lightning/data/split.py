"""Training, validation and test: what folders and lists say, and a seeded split that keeps groups together."""

from __future__ import annotations

import logging
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.folder import read_text
from kemr_lightning.data.names import same_name

log = logging.getLogger(__name__)

GROUP_PATTERN = r"^(.*\d)[a-z]?$"
"""A file name without its suffix and without one small letter after its last digit: ``case_12a`` and ``case_12b``
belong together. A name that does not match is a group of its own."""

SPLITS = ("train", "val", "test")

PART_NAMES = {
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "dev", "valset", "validset", "validationset"),
    "test": ("test", "tests", "testing", "testset"),
}
"""Names of each part in folders and files, in lower case. ``train_set`` counts as ``trainset``."""

_YEAR = re.compile(r"[-_. ]?(19|20)\d\d$")
_SET = re.compile(r"[-_. ](?=set$)")
_ROBOFLOW = re.compile(r"^(?P<name>.+)\.rf\.[0-9A-Za-z_-]{8,}$")
_ENDING = re.compile(r"[_.](png|jpe?g|bmp|tiff?)$", re.IGNORECASE)


def part_named(word: str) -> str | None:
    """The part that the name of a folder, or a word of a file's name, stands for; None if it is none.

    Case does not matter, and a year may follow, as in ``train2017``.
    """
    plain = _SET.sub("", _YEAR.sub("", word.casefold()))
    return next((part for part in SPLITS if plain in PART_NAMES[part]), None)


def part_mentioned(name: str) -> str | None:
    """The part that a name mentions as one of its words, as ``instances_train2017`` and ``test images`` do, or None."""
    whole = part_named(name)
    words = [name] if whole else re.split(r"[-_. ]+", name)
    return next((part for part in SPLITS if any(part_named(word) == part for word in words)), None)


def split_name(name: str, parts: Sequence[str]) -> tuple[str, str]:
    """The part in whose folder a file lies, and the rest of its name.

    Args:
        name: Path relative to the data root.
        parts: The parts of the data set.

    Returns:
        ``"all"`` and the whole name for a file outside the parts' folders.
    """
    first, _, rest = name.partition("/")
    part = part_named(first)
    return (part, rest) if rest and part in parts and part is not None else ("all", name)


def group_of(name: str, pattern: str = GROUP_PATTERN) -> str:
    """The group a file belongs to: its folder, and what a pattern finds in its stem.

    Args:
        name: Path relative to the data root.
        pattern: Regular expression, searched in the stem. Its first group counts, or the whole match if it has none.

    Raises:
        SettingError: The pattern is not a regular expression.
    """
    path = PurePosixPath(name)
    stem = path.stem
    if version := _ROBOFLOW.match(stem):
        # Roboflow writes several versions of an image, NAME_png.rf.HASH.jpg.
        stem = _ENDING.sub("", version["name"])
        name = str(path.parent / stem)
    try:
        found = re.search(pattern, stem)
    except re.error as error:
        raise SettingError("group_pattern", pattern, f"is not a regular expression ({error})", "Correct it") from error
    if found is None:
        return name
    return str(path.parent / (found.group(1) if found.re.groups and found.group(1) is not None else found.group(0)))


def grouped_split(groups: Sequence[str], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Split positions in two so that equal groups stay together.

    The groups are shuffled with the seed. One after the other goes into the second part if that brings its size closer
    to the intended size.

    Args:
        groups: The group of each item.
        fraction: Intended size of the second part as a fraction of all, in (0, 1).
        seed: The same seed and groups give the same split, whatever the order of the items.

    Returns:
        Positions of the first and of the second part, both ascending. With two or more groups neither is empty; with
        one group, everything goes to the first.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for position, group in enumerate(groups):
        members[group].append(position)
    names = sorted(members)
    random.Random(seed).shuffle(names)
    aim = fraction * len(groups)
    taken: list[int] = []
    for name in names[: len(names) - 1]:
        size = len(members[name])
        if abs(len(taken) + size - aim) < abs(len(taken) - aim):
            taken += members[name]
    if not taken and len(names) > 1:
        taken = list(members[min(names, key=lambda name: len(members[name]))])
    second = set(taken)
    return [position for position in range(len(groups)) if position not in second], sorted(second)


def read_list(path: str | Path) -> list[str]:
    """The names in a list file: one per line; empty lines and lines that begin with ``#`` are ignored.

    Raises:
        UserError: The file cannot be read or is empty.
    """
    try:
        lines = read_text(Path(path)).splitlines()
    except UserError as error:
        raise UserError(f"the name list cannot be read: {error}") from error
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not names:
        raise UserError(f"the name list {path} is empty. Write one file name per line")
    return names


def select(names: Iterable[str], wanted: Sequence[str], setting: str) -> list[int]:
    """Find names, given with or without folder and suffix.

    A name that is not there as it is written is found if only one differs from it in no more than
    `kemr_lightning.data.names.same_name` allows, with a warning.

    Args:
        names: Names of all items, relative to the data root.
        wanted: Names to find.
        setting: The setting that ``wanted`` comes from, for errors.

    Returns:
        Positions in ``names``, in the order of ``wanted``; each once.

    Raises:
        SettingError: A wanted name is not there, or matches more than one item.
    """
    everything = list(names)
    index: Mapping[str, set[int]] = defaultdict(set)
    alike: Mapping[str, set[int]] = defaultdict(set)
    for position, name in enumerate(everything):
        path = PurePosixPath(name)
        for key in (name, str(path.with_suffix("")), path.name, path.stem):
            index[key].add(position)
            alike[same_name(key)].add(position)
    positions = []
    for name in wanted:
        plain = name.replace("\\", "/").removeprefix("./")
        bare = str(PurePosixPath(plain).with_suffix(""))
        found = index.get(plain) or index.get(bare)
        if not found and (found := alike.get(same_name(plain)) or alike.get(same_name(bare))) and len(found) == 1:
            log.warning("%s: %s is taken for %s", setting, name, everything[next(iter(found))])
        if not found:
            raise SettingError(setting, name, "is not in the data folder", "Correct the list")
        if len(found) > 1:
            listed = ", ".join(everything[position] for position in sorted(found)[:3])
            more = ", ..." if len(found) > 3 else ""
            raise SettingError(setting, name, f"matches {len(found)} files ({listed}{more})", "Add its folder")
        positions += [position for position in found if position not in positions]
    return positions
