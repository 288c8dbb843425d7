"""Folders of images and annotations to `Record`s, with every broken file named before anything starts."""

from __future__ import annotations

import functools
import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.dataset import Record
from kemr_lightning.data.image import IMAGE_SUFFIXES, read_image
from kemr_lightning.data.labelme import LabelmeFile, NotLabelmeError, check_image, find_image, load_image, parse_labelme
from kemr_lightning.data.split import SPLITS

log = logging.getLogger(__name__)

SHOWN = 3
"""How many faults a message names."""


def walk(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files in a folder and below with one of the endings, sorted; hidden files and folders are passed over.

    Raises:
        UserError: A name cannot be written as text: it is not in the file system's encoding.
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


def labelme_records(root: Path, folder: Path) -> list[Record]:
    """The Labelme files of a folder, each with its image found and its size checked.

    Args:
        root: The data root: names are relative to it and images may not lie outside it.
        folder: The root or a folder in it.

    Raises:
        UserError: There are no annotations, or some are broken; the first few are named.
    """
    records: list[Record] = []
    faults: list[str] = []
    skipped: Counter[str] = Counter()
    notices: list[str] = []
    strangers: list[NotLabelmeError] = []
    for path in walk(folder, [".json"]):
        try:
            file = parse_labelme(path)
            notice = check_image(file, root)
        except NotLabelmeError as error:
            strangers.append(error)
            continue
        except UserError as error:
            faults.append(str(error))
            continue
        notices += [] if notice is None else [notice]
        skipped.update(file.skipped)
        records.append(labelme_record(file, root))
    raise_faults(faults, folder)
    for stranger in strangers:
        if not records:
            raise stranger
        log.warning("%s Passed over.", stranger)
    if not records:
        raise UserError(f"{folder} has no Labelme annotations (*.json). Annotate its images or correct data.root.")
    if skipped:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()))
        log.warning("%s: shapes that are no instances, left out: %s", folder, counts)
    for notice in notices[:SHOWN]:
        log.warning(notice)
    if len(notices) > SHOWN:
        log.warning("%s: %d more notices of the kind", folder, len(notices) - SHOWN)
    used = {record.path for record in records}
    if alone := sum(path not in used for path in walk(folder, IMAGE_SUFFIXES)):
        log.info("%s: %d images without annotations are not used", folder, alone)
    records.sort(key=lambda record: record.name)
    refuse_twins(records, "annotated by two JSON files. Keep one of them.")
    return records


class LabelmeSource:
    """The Labelme files of a data folder, part by part."""

    def __init__(self, root: Path) -> None:
        """See which parts there are; nothing is read yet."""
        self.root = root
        self.parts = [part for part in SPLITS if (root / part).is_dir()] or ["all"]
        """``train``, ``val`` and ``test`` as far as there are folders of these names, else ``["all"]``."""

    def read(self, part: str) -> list[Record]:
        """The records of one part.

        Raises:
            UserError: As `labelme_records`.
        """
        return labelme_records(self.root, self.root if part == "all" else self.root / part)


def labelme_record(file: LabelmeFile, root: Path) -> Record:
    """The record of one parsed file."""
    found, _ = find_image(file, root)
    if found is None:
        ending = Path((file.image_path or "").replace("\\", "/")).suffix or ".png"
        named = file.path.with_suffix(ending)
    else:
        named = found
    return Record(
        name=named.relative_to(root).as_posix() if named.is_relative_to(root) else named.name,
        path=file.path if found is None else found,
        load=functools.partial(load_image, file, root),
        annotations=file.annotations,
    )


def unannotated_records(root: Path, folder: Path) -> list[Record]:
    """Every image of a folder and below for prediction, annotated or not; images embedded in Labelme files included.

    Raises:
        UserError: The folder is missing or has no images.
    """
    if not folder.is_dir():
        raise UserError(f"data.root={folder} is no folder. Give the folder that holds the images.")
    records = [
        Record(path.relative_to(root).as_posix(), path, functools.partial(read_image, path))
        for path in walk(folder, IMAGE_SUFFIXES)
    ]
    known = {record.path.with_suffix("") for record in records}
    for path in walk(folder, [".json"]):
        if path.with_suffix("") in known:
            continue
        try:
            file = parse_labelme(path)
        except UserError:
            continue
        if file.embedded and find_image(file, root)[0] is None:
            records.append(Record(**{**labelme_record(file, root).__dict__, "annotations": None}))
    if not records:
        endings = " ".join(IMAGE_SUFFIXES)
        raise UserError(f"data.root={folder} has no images ({endings}). Give the folder that holds the images.")
    return sorted(records, key=lambda record: record.name)


def refuse_twins(records: Sequence[Record], fault: str) -> None:
    """Refuse an image that is there twice: it would be trained on and scored twice.

    Args:
        records: Sorted by name.
        fault: What is wrong with such an image and the cure, after "NAME is".

    Raises:
        UserError: There is one.
    """
    for before, after in itertools.pairwise(records):
        if before.name == after.name:
            raise UserError(f"{after.name} is {fault}")


def raise_faults(faults: Sequence[str], folder: Path) -> None:
    """Raise one error that names the first few faults, if there are any.

    Raises:
        UserError: There are faults.
    """
    if not faults:
        return
    more = f" ({len(faults) - SHOWN} more broken files in {folder})" if len(faults) > SHOWN else ""
    raise UserError(" | ".join(faults[:SHOWN]) + more)
