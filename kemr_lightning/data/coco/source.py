"""The COCO files of a data folder: which part each is for, and their records.

A JSON may lie beside the images, above them (`boxes.json`, `images/`), in `train/`, `val/` and `test/`, or in
`annotations/` with the part in its name (`instances_train.json`). The name of a part may end in a year, as in
`instances_train2017.json` and `train2017/`.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.coco.parse import parse_coco
from kemr_lightning.data.faults import raise_faults, refuse_twins, warn_of_skipped
from kemr_lightning.data.folder import read_json
from kemr_lightning.data.record import Record
from kemr_lightning.data.split import PART_NAMES, SPLITS, part_named

log = logging.getLogger(__name__)


class CocoSource:
    """The COCO files of a data folder, part by part."""

    def __init__(self, root: Path) -> None:
        """Find the JSON files and the parts they are for.

        Raises:
            UserError: There are none.
        """
        self.root = root
        self._files = _files_of_parts(root)
        self.parts = list(self._files)
        """``train``, ``val`` and ``test`` as far as there are files for them, else ``["all"]``."""

    def places(self, part: str) -> tuple[list[Path], Path]:
        """The JSON files of one part and the folder of its images."""
        return self._files[part]

    def read(self, part: str) -> list[Record]:
        """The records of one part, sorted by name.

        Raises:
            UserError: A file is broken, or images are missing; the first few faults are named.
        """
        files, folder = self._files[part]
        records: list[Record] = []
        faults: list[str] = []
        skipped: Counter[str] = Counter()
        for path in files:
            contents = parse_coco(path, self.root, folder)
            records += contents.records
            faults += [fault.message for fault in contents.faults]
            skipped.update(contents.skipped)
        raise_faults(faults, folder, "faults")
        warn_of_skipped(folder, "annotations", skipped)
        records.sort(key=lambda record: record.name)
        refuse_twins(records, "listed twice in the COCO files. Keep one of the entries.")
        return records

    def readable(self, part: str) -> tuple[list[Record], list[str]]:
        """The records of one part as far as they can be read, and what is wrong with the others, one message each."""
        files, folder = self._files[part]
        records: list[Record] = []
        faults: list[str] = []
        for path in files:
            try:
                contents = parse_coco(path, self.root, folder)
            except UserError as error:
                faults.append(str(error))
                continue
            records += contents.records
            faults += [fault.message for fault in contents.faults]
        return records, faults


def _files_of_parts(root: Path) -> dict[str, tuple[list[Path], Path]]:
    """The JSON files of each part and the folder of its images."""
    folders = {part: _folders(root, part) for part in SPLITS}
    found: dict[str, tuple[list[Path], Path]] = {}
    for part in SPLITS:
        for folder in folders[part]:
            if part not in found and (files := _coco_files(folder)):
                found[part] = (files, folder)
    if found:
        return found
    files = _coco_files(root) + _coco_files(root / "annotations")
    for part in SPLITS:
        if chosen := [path for path in files if _part_in_name(path.stem) == part]:
            found[part] = (chosen, (folders[part] or [root / part])[0])
    if found:
        return found
    if not files:
        raise UserError(f"{root} has no COCO JSON (with images and annotations). Give the folder that holds one")
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        log.warning("%s: none of %s names a part (train, val, test): they are read as one set", root, names)
    return {"all": (files, root)}


def _coco_files(folder: Path) -> list[Path]:
    """The COCO files right in a folder. A JSON that cannot be read counts as one, so that it is reported."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            document = read_json(path, "")
        except UserError:
            found.append(path)
            continue
        if isinstance(document, dict) and "images" in document and "annotations" in document:
            found.append(path)
    return found


def _folders(root: Path, part: str) -> list[Path]:
    """The folders of a part: first those with its name alone (``valid``), then those with a year (``val2017``)."""
    if not root.is_dir():
        return []
    found = [path for path in sorted(root.iterdir()) if part_named(_without_year(path.name)) == part and path.is_dir()]
    return sorted(found, key=lambda folder: folder.name not in PART_NAMES[part])


def _part_in_name(name: str) -> str | None:
    """The part that a file name mentions as one of its words, with or without a year."""
    words = [_without_year(word) for word in re.split(r"[-_. ]", name.lower())]
    return next((part for part in SPLITS if any(part_named(word) == part for word in words)), None)


def _without_year(word: str) -> str:
    return word.rstrip("0123456789")
