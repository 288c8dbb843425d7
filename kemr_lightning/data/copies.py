"""Images that occur twice: one file in two parts of a data set, or the same file under two names."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence

from kemr_lightning.core.digests import data_digest, file_digest
from kemr_lightning.core.errors import UserError
from kemr_lightning.data.record import Record


def equal_files(records: Sequence[Record]) -> list[list[int]]:
    """Find records whose image files have the same bytes.

    Only files of the same size are read.

    Args:
        records: Records; images that cannot be read are equal to no other.

    Returns:
        Positions of records with one content, in ascending order, for each content that occurs more than once.
    """
    known: dict[int, str] = {}
    by_size: dict[int, list[int]] = defaultdict(list)
    for position, record in enumerate(records):
        try:
            if record.embedded is None:
                size = record.path.stat().st_size
            else:
                data = record.embedded()
                size, known[position] = len(data), data_digest(data)
        except (OSError, UserError):
            continue
        by_size[size].append(position)
    by_digest: dict[str, list[int]] = defaultdict(list)
    for positions in by_size.values():
        for position in positions if len(positions) > 1 else ():
            try:
                by_digest[known.get(position) or file_digest(records[position].path)].append(position)
            except OSError:
                continue
    return [sorted(positions) for positions in by_digest.values() if len(positions) > 1]


def refuse_copies(parts: Mapping[str, Sequence[Record]]) -> None:
    """Refuse an image that is in two parts: a model would be selected or scored on what it was trained on.

    Args:
        parts: The records of each part.

    Raises:
        UserError: One file, or files of the same content, are in two parts.
    """
    everything = [(part, record) for part, records in parts.items() for record in records]
    for positions in equal_files([record for _, record in everything]):
        for first, second in itertools.combinations(positions, 2):
            (part, record), (other_part, other) = everything[first], everything[second]
            if part == other_part:
                continue
            if record.name == other.name:
                raise UserError(f"{record.name} is in two parts, {part} and {other_part}. Keep it in one of them")
            raise UserError(
                f"{record.name} ({part}) and {other.name} ({other_part}) are the same image in two parts. "
                "Keep it in one of them"
            )
