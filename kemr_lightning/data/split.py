"""Which file is for training, validation and test: seeded, and never splitting what belongs together."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from kemr_lightning.core.errors import UserError

GROUP_PATTERN = r"^(.*\d)[a-z]?$"
"""A file name (without ending) less one small letter after its last digit: ``case_12a`` and ``case_12b`` belong
together. Names it does not match stand for themselves."""

SPLITS = ("train", "val", "test")


def group_of(name: str, pattern: str = GROUP_PATTERN) -> str:
    """What a file belongs to: its folder and the first group (else the whole match) of a pattern in its stem.

    Args:
        name: Path relative to the data root.
        pattern: Regular expression, searched in the stem.

    Raises:
        UserError: The pattern is no regular expression.
    """
    path = PurePosixPath(name)
    try:
        found = re.search(pattern, path.stem)
    except re.error as error:
        raise UserError(f"data.group_pattern={pattern!r} is no regular expression ({error}). Correct it.") from error
    if found is None:
        return name
    return str(path.parent / (found.group(1) if found.re.groups and found.group(1) is not None else found.group(0)))


def grouped_split(groups: Sequence[str], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Split positions so that equal groups stay together.

    Groups are drawn in a seeded order and taken as long as they bring the smaller part's size closer to its aim.

    Args:
        groups: The group of each item.
        fraction: Aim for the second part, in (0, 1).
        seed: Same seed and same groups, same split, whatever the order of items.

    Returns:
        Positions of the first (larger) and the second part, both ascending. With two or more groups neither is empty;
        with one, all goes to the first.
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
    """The names in a list file: one a line, empty lines and lines that begin with ``#`` left out.

    Raises:
        UserError: The file cannot be read or is empty.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the name list {path} ({error}). Check data.lists.") from error
    names = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not names:
        raise UserError(f"the name list {path} is empty. Write one file name a line.")
    return names


def select(names: Iterable[str], wanted: Sequence[str], source: str) -> list[int]:
    """Positions of the wanted names, in their order there; with or without folder and ending.

    Args:
        names: Names of all items, relative to the data root.
        wanted: Names to find.
        source: Where ``wanted`` comes from, for messages.

    Raises:
        UserError: A wanted name is not there, or stands for more than one item.
    """
    index: Mapping[str, set[int]] = defaultdict(set)
    for position, name in enumerate(names):
        path = PurePosixPath(name)
        for key in (name, str(path.with_suffix("")), path.name, path.stem):
            index[key].add(position)
    positions = []
    for name in wanted:
        plain = name.replace("\\", "/").removeprefix("./")
        found = index.get(plain) or index.get(str(PurePosixPath(plain).with_suffix("")))
        if not found:
            raise UserError(f"{source} names {name!r}, which is not in the data folder. Correct the list.")
        if len(found) > 1:
            raise UserError(f"{source} names {name!r}, which stands for {len(found)} files. Add its folder.")
        positions += [position for position in found if position not in positions]
    return positions
