"""The COCO files of a data folder: which part each is for, and their records.

A JSON may lie beside the images, above them (`boxes.json`, `images/`), in `train/`, `val/` and `test/`, or in
`annotations/` with the part in its name (`instances_train.json`), with the images right there, in `train/` or in
`images/train/`. See `kemr_lightning.data.split.PART_NAMES` for other names of parts.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.coco.parse import parse_coco
from kemr_lightning.data.faults import raise_faults, refuse_twins, warn_of_notices, warn_of_skipped
from kemr_lightning.data.folder import read_json
from kemr_lightning.data.part_folders import part_folders, unused_folders, warn_of_unused
from kemr_lightning.data.record import Record
from kemr_lightning.data.split import SPLITS, part_mentioned

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

    @property
    def in_folders(self) -> bool:
        """Whether the JSON files lie in the folders of the parts."""
        return all(path.parent == folder for files, folder in self._files.values() for path in files)

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
        notices: list[str] = []
        for path in files:
            contents = parse_coco(path, self.root, folder)
            records += contents.records
            faults += [fault.message for fault in contents.faults]
            skipped.update(contents.skipped)
            notices += contents.notices
        raise_faults(faults, folder, "faults")
        warn_of_notices(notices, folder)
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
    folders = part_folders(root)
    found = {part: (files, folder) for part, folder in folders.items() if (files := _coco_files(folder))}
    above = _coco_files(root) + _coco_files(root / "annotations")
    if found:
        names = [path.relative_to(root).as_posix() for path in above if part_mentioned(path.stem)]
        warn_of_unused(root, unused_folders(root, [folder for _, folder in found.values()]) + names)
        return found
    images = folders or part_folders(root / "images")
    for part in SPLITS:
        if chosen := [path for path in above if part_mentioned(path.stem) == part]:
            found[part] = (chosen, images.get(part, root / part))
    if found:
        unused = [path.relative_to(root).as_posix() for path in above if part_mentioned(path.stem) is None]
        if unused:
            log.warning("%s: %s name no part (train, val, test) and are not used", root, ", ".join(unused))
        return found
    if not above:
        raise UserError(f"{root} has no COCO JSON (with images and annotations). Give the folder that holds one")
    if len(above) > 1:
        names = [path.name for path in above]
        log.warning("%s: none of %s names a part (train, val, test): they are read as one set", root, ", ".join(names))
    return {"all": (above, root)}


def _coco_files(folder: Path) -> list[Path]:
    """The COCO files right in a folder. A JSON that cannot be read counts as one, so that it is reported."""
    found = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix.lower() != ".json" or path.name.startswith(".") or not path.is_file():
            continue
        try:
            document = read_json(path, "")
        except UserError:
            found.append(path)
            continue
        if isinstance(document, dict) and "images" in document and "annotations" in document:
            found.append(path)
    return found
