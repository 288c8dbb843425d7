"""Labelme annotations of images to predict, and images that exist only inside Labelme files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.faults import SHOWN
from kemr_lightning.data.folder import walk
from kemr_lightning.data.labelme.parse import LabelmeFile, parse_labelme
from kemr_lightning.data.labelme.read import find_image
from kemr_lightning.data.labelme.source import labelme_record
from kemr_lightning.data.names import AmbiguousNameError
from kemr_lightning.data.record import Record

log = logging.getLogger(__name__)


def labelme_inputs(root: Path, apart: Callable[[Path], bool], written: Callable[[Path], bool]) -> list[Record]:
    """The Labelme annotations of a folder, see `kemr_lightning.data.annotation_format.Format.inputs`.

    An embedded image is predicted even if the run itself has written its file; the file is not an annotation then.
    """
    beside: dict[Path, list[LabelmeFile]] = {}
    embedded: list[Record] = []
    alone: list[str] = []
    for file in _parsed(root, apart):
        try:
            image = find_image(file, root)[0]
        except AmbiguousNameError as error:
            log.warning("%s The file is passed over.", error)
            continue
        if image is not None:
            if not written(file.path):
                beside.setdefault(image, []).append(file)
        elif file.embedded:
            record = labelme_record(file, root)
            embedded.append(_unannotated(record) if written(file.path) else record)
        else:
            alone.append(file.path.name)
    if alone:
        names = ", ".join(alone[:SHOWN]) + (", ..." if len(alone) > SHOWN else "")
        log.warning(
            "passed over: %d Labelme files without their image: %s. Put the images beside them.", len(alone), names
        )
    return [labelme_record(_chosen(image, files), root) for image, files in beside.items()] + embedded


def _unannotated(record: Record) -> Record:
    return replace(record, annotations=None, annotated_by=None, stated_size=None)


def _parsed(root: Path, apart: Callable[[Path], bool]) -> list[LabelmeFile]:
    """The Labelme files of a folder; broken ones are logged and left out."""
    files = []
    for path in walk(root, [".json"]):
        if apart(path):
            continue
        try:
            files.append(parse_labelme(path))
        except UserError as error:
            log.warning("%s The image is predicted without annotations.", error)
    return files


def _chosen(image: Path, files: Sequence[LabelmeFile]) -> LabelmeFile:
    """The annotation file of an image: of several, the one of the image's name, or else the first."""
    chosen = next((file for file in files if file.path == image.with_suffix(".json")), files[0])
    if len(files) > 1:
        names = ", ".join(file.path.name for file in files)
        log.warning("%s is annotated by %s: %s is used. Remove the others.", image.name, names, chosen.path.name)
    return chosen
