"""The Labelme files of a data folder as records, for training and testing."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.faults import raise_faults, refuse_twins, warn_of_notices, warn_of_skipped
from kemr_lightning.data.folder import walk
from kemr_lightning.data.labelme.parse import LabelmeFile, NotLabelmeError, parse_labelme
from kemr_lightning.data.labelme.read import check_image, embedded_image, find_image, load_image
from kemr_lightning.data.part_folders import part_folders, refuse_hidden_parts, unused_folders, warn_of_unused
from kemr_lightning.data.record import Record
from kemr_lightning.data.survey import images_besides

log = logging.getLogger(__name__)


class LabelmeSource:
    """The Labelme files of a data folder, part by part."""

    def __init__(self, root: Path) -> None:
        """Find which parts exist; no file is read yet.

        Raises:
            UserError: It is not clear which folders are the parts.
        """
        self.root = root
        self._folders = part_folders(root)
        self.parts = list(self._folders) or ["all"]
        """``train``, ``val`` and ``test`` as far as there are folders for them, else ``["all"]``."""
        if self._folders:
            warn_of_unused(root, unused_folders(root, list(self._folders.values())))
        else:
            refuse_hidden_parts(root)

    def read(self, part: str) -> list[Record]:
        """The records of one part, sorted by name.

        Raises:
            UserError: There are no annotations, or some are broken; the first few are named.
        """
        return labelme_records(self.root, self._folders.get(part, self.root))


def labelme_records(root: Path, folder: Path) -> list[Record]:
    """The Labelme files of a folder. Each image has been found, and its size checked.

    Args:
        root: The data root: names are relative to it, and images may not lie outside it.
        folder: The root or a folder in it.

    Raises:
        UserError: There are no annotations, or some are broken; the first few are named.
    """
    records: list[Record] = []
    faults: list[str] = []
    skipped: Counter[str] = Counter()
    notices: list[str] = []
    others: list[NotLabelmeError] = []
    for path in walk(folder, [".json"]):
        try:
            file = parse_labelme(path)
            notice = check_image(file, root)
        except NotLabelmeError as error:
            others.append(error)
            continue
        except UserError as error:
            faults.append(str(error))
            continue
        notices += [] if notice is None else [notice]
        skipped.update(file.skipped)
        records.append(labelme_record(file, root))
    raise_faults(faults, folder)
    for other in others:
        if not records:
            raise other
        log.warning("%s Passed over.", other)
    if not records:
        raise UserError(
            f"{folder} has no Labelme annotations (*.json). Annotate its images, or give the folder that holds them"
        )
    warn_of_skipped(folder, "shapes", skipped)
    warn_of_notices(notices, folder)
    if unused := len(images_besides(folder, {record.path for record in records})):
        log.info("%s: %d images without annotations are not used", folder, unused)
    records.sort(key=lambda record: record.name)
    refuse_twins(records, "annotated by two JSON files. Keep one of them.")
    return records


def labelme_record(file: LabelmeFile, root: Path) -> Record:
    """The record of one parsed file.

    Args:
        file: As `parse_labelme` returns it.
        root: The data root.
    """
    found, _ = find_image(file, root)
    if found is None:
        suffix = Path((file.image_path or "").replace("\\", "/")).suffix or ".png"
        named = file.path.with_suffix(suffix)
    else:
        named = found
    return Record(
        name=named.relative_to(root).as_posix() if named.is_relative_to(root) else named.name,
        path=file.path if found is None else found,
        load=functools.partial(load_image, file, root),
        annotations=file.annotations,
        stated_size=file.image_size,
        annotated_by=file.path,
        embedded=functools.partial(embedded_image, file.path) if found is None and file.embedded else None,
    )
