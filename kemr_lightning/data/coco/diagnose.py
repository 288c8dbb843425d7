"""What is wrong with the COCO files of a folder."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.coco.parse import parse_coco
from kemr_lightning.data.coco.source import CocoSource
from kemr_lightning.data.image import read_image
from kemr_lightning.data.record import Record
from kemr_lightning.data.survey import (
    Fault,
    Survey,
    SurveyedImage,
    bare_image,
    images_besides,
    unused_faults,
    without_path,
)


def diagnose_coco(root: Path) -> Survey:
    """Read the COCO files of a folder; faults do not stop it.

    Args:
        root: The data root.
    """
    try:
        source = CocoSource(root)
        unused = unused_faults(root, source.parts)
    except UserError as error:
        return Survey(faults=[Fault("broken_file", "", str(error))])
    survey = Survey(parts=list(source.parts))
    survey.faults += unused if source.parts != ["all"] and source.in_folders else []
    listed: set[Path] = set()
    damaged: set[Path] = set()
    for part in source.parts:
        files, folder = source.places(part)
        owners: dict[str, str] = {}
        for path in files:
            name = path.relative_to(root).as_posix()
            try:
                contents = parse_coco(path, root, folder)
            except UserError as error:
                survey.faults.append(Fault("broken_file", name, without_path(str(error), path)))
                continue
            survey.faults += [Fault(fault.kind, name, without_path(fault.message, path)) for fault in contents.faults]
            damaged |= {fault.image for fault in contents.faults if fault.image is not None}
            for reason, count in contents.skipped.items():
                message = f"{count} annotations are {reason} and left out"
                survey.faults.append(Fault("degenerate" if reason == "degenerate" else "skipped", name, message))
            survey.faults += [Fault("elsewhere", name, without_path(notice, path)) for notice in contents.notices]
            listed |= {record.path for record in contents.records}
            _add(survey, part, name, contents.records, owners)
    for path in images_besides(root, listed):
        survey.faults.append(Fault("unannotated", path.relative_to(root).as_posix(), "no COCO file lists it"))
        if path not in damaged:  # a damaged one has its fault already
            survey.bare.append(bare_image(root, path, survey.parts))
    return survey


def _add(survey: Survey, part: str, name: str, records: Sequence[Record], owners: dict[str, str]) -> None:
    """Add the images of one file to a survey.

    Args:
        survey: What is found so far.
        part: The part that the file is for.
        name: The file.
        records: Its images.
        owners: The file that lists each image of the part so far, by the image's name.
    """
    for record in records:
        if record.name in owners:
            both = (owners[record.name], name)
            message = f"listed twice, in {both[0]} and {both[1]}"
            survey.faults.append(Fault("two_files", record.name, message, others=both))
            continue
        owners[record.name] = name
        if not record.annotations:
            survey.faults.append(Fault("empty", record.name, f"{name} has no instance for it"))
        survey.images.append(SurveyedImage(record, part, functools.partial(read_image, record.path)))
