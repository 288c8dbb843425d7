"""Errors and warnings about the files of a data set: the first few are named, the others counted."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.record import Record

log = logging.getLogger(__name__)

SHOWN = 3
"""How many faults a message names."""


def raise_faults(faults: Sequence[str], folder: Path, what: str = "broken files") -> None:
    """Raise one error for all faults, if there are any.

    Args:
        faults: One message each.
        folder: The folder that was read.
        what: What the faults are, in the plural, for those that are only counted.

    Raises:
        UserError: There are faults. The message names the first few.
    """
    if not faults:
        return
    more = f" ({len(faults) - SHOWN} more {what} in {folder})" if len(faults) > SHOWN else ""
    raise UserError(" | ".join(faults[:SHOWN]) + more)


def refuse_twins(records: Sequence[Record], fault: str) -> None:
    """Refuse duplicates: an image that occurs twice would be trained on and scored twice.

    Args:
        records: Sorted by name.
        fault: What is wrong with such an image, and the cure; continues "NAME is".

    Raises:
        UserError: An image occurs twice.
    """
    for before, after in itertools.pairwise(records):
        if before.name == after.name:
            raise UserError(f"{after.name} is {fault}")


def warn_of_skipped(folder: Path, what: str, counts: Mapping[str, int]) -> None:
    """Log how many shapes or annotations of each kind are left out, if any.

    Args:
        folder: The folder that was read.
        what: What they are, in the plural: "shapes".
        counts: How often each kind occurs.
    """
    if counts:
        listed = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        log.warning("%s: %s that are not instances, left out: %s", folder, what, listed)


def warn_of_notices(notices: Sequence[str], folder: Path) -> None:
    """Log the first few of what is unusual about files, and how many more there are.

    Args:
        notices: One sentence each.
        folder: The folder that was read.
    """
    for notice in notices[:SHOWN]:
        log.warning("%s", notice)
    if len(notices) > SHOWN:
        log.warning("%s: %d more notices of this kind", folder, len(notices) - SHOWN)
