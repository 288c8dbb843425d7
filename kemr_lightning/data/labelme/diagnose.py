"""What is wrong with the Labelme files of a folder, file by file and shape by shape."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.folder import walk
from kemr_lightning.data.image import read_image
from kemr_lightning.data.labelme.parse import NO_INSTANCE, LabelmeFile, NotLabelmeError, interpret, read_document
from kemr_lightning.data.labelme.read import find_image, load_image
from kemr_lightning.data.labelme.source import LabelmeSource, labelme_record
from kemr_lightning.data.names import AmbiguousNameError
from kemr_lightning.data.split import split_name
from kemr_lightning.data.survey import (
    Box,
    Fault,
    Survey,
    SurveyedImage,
    bare_image,
    images_besides,
    unused_faults,
    without_path,
)


def diagnose_labelme(root: Path) -> Survey:
    """Read the Labelme files of a folder; faults do not stop it.

    Args:
        root: The data root.
    """
    try:
        survey = Survey(parts=LabelmeSource(root).parts)
    except UserError as error:
        return Survey(faults=[Fault("parts", "", str(error))])
    survey.faults += unused_faults(root, survey.parts)
    owners: dict[str, str] = {}
    used: set[Path] = set()
    for path in walk(root, [".json"]):
        name = path.relative_to(root).as_posix()
        if _outside(name, survey.parts):
            survey.faults.append(Fault("unused", name, "lies outside train/, val/ and test/"))
            continue
        file = _parse(path, name, survey.faults)
        if file is None:
            continue
        try:
            found, notice = find_image(file, root)
        except AmbiguousNameError as error:
            survey.faults.append(Fault("missing_image", name, without_path(str(error), path)))
            continue
        image = _surveyed(file, root, found, survey.parts)
        image_name = image.record.name
        if notice is not None:
            survey.faults.append(Fault("elsewhere", name, without_path(notice, path)))
        if image_name in owners:
            both = (owners[image_name], name)
            message = f"{both[0]} and {both[1]} annotate the same image"
            survey.faults.append(Fault("two_files", image_name, message, others=both))
            continue
        owners[image_name] = name
        used |= set() if found is None else {found}
        if not file.annotations:
            survey.faults.append(Fault("empty", image_name, f"{name} has no instance"))
        survey.images.append(image)
    for path in images_besides(root, used):
        name = path.relative_to(root).as_posix()
        unused = _outside(name, survey.parts)
        survey.faults.append(Fault("unused" if unused else "unannotated", name, "no annotation file belongs to it"))
        if not unused:
            survey.bare.append(bare_image(root, path, survey.parts))
    return survey


def _outside(name: str, parts: Sequence[str]) -> bool:
    """Whether a file lies outside the parts' folders, if there are any."""
    return list(parts) != ["all"] and split_name(name, parts)[0] == "all"


def _surveyed(file: LabelmeFile, root: Path, found: Path | None, parts: Sequence[str]) -> SurveyedImage:
    record = labelme_record(file, root)
    decode = None
    if found is not None:
        decode = functools.partial(read_image, found)
    elif file.embedded:
        decode = functools.partial(load_image, replace(file, image_size=None), root)
    return SurveyedImage(record, split_name(record.name, parts)[0], decode)


def _parse(path: Path, name: str, faults: list[Fault]) -> LabelmeFile | None:
    """A Labelme file without the shapes that make it unreadable; None if it cannot be read at all.

    Args:
        path: The file.
        name: Its path relative to the data root.
        faults: What is wrong is added here.
    """
    try:
        document = read_document(path)
    except NotLabelmeError as error:
        faults.append(Fault("other_json", name, without_path(str(error), path)))
        return None
    except UserError as error:
        faults.append(Fault("broken_file", name, without_path(str(error), path)))
        return None
    try:
        file = interpret(path, document)
        shapes = document["shapes"] if file.skipped else []
    except UserError as error:
        file, shapes = None, document["shapes"]
        try:
            interpret(path, {**document, "shapes": []})
        except UserError:  # something other than the shapes is broken
            faults.append(Fault("broken_file", name, without_path(str(error), path)))
            return None
    good = _good_shapes(path, name, document, shapes, faults)
    return interpret(path, {**document, "shapes": good}) if file is None else file


def _good_shapes(
    path: Path, name: str, document: Mapping[str, Any], shapes: Sequence[Any], faults: list[Fault]
) -> list[Any]:
    """The shapes that can be interpreted, one by one; what is wrong with the others is added to the faults."""
    good = []
    for number, raw in enumerate(shapes):
        try:
            alone = interpret(path, {**document, "shapes": [raw]}, first=number + 1)
        except UserError as error:
            faults.append(Fault("broken_shape", name, without_path(str(error), path)))
            continue
        good.append(raw)
        faults += [_skipped(name, number + 1, raw, reason) for reason in alone.skipped]
    return good


def _skipped(name: str, number: int, raw: Mapping[str, Any], reason: str) -> Fault:
    """The fault for a shape that is not an instance.

    Args:
        name: The annotation file.
        number: Number of the shape in it, from 1.
        raw: The shape.
        reason: As in `LabelmeFile.skipped`.
    """
    label = raw.get("label")
    # The parser takes `[[]]` for no corners, as it does `[]` and null.
    corners = np.array(raw.get("points") or [], dtype=np.float64).reshape(-1, 2)
    boxes: tuple[Box, ...] = ()
    if len(corners):
        low, high = corners.min(axis=0), corners.max(axis=0)
        boxes = ((float(low[0]), float(low[1]), float(high[0]), float(high[1])),)
    if reason == "degenerate":
        message = f"shape {number} ({label}) has {len(corners)} corners and no area"
        return Fault("degenerate", name, message, boxes)
    if reason == "outside":
        return Fault("outside", name, f"shape {number} ({label}) is a mask beyond the image")
    what = "encloses nothing" if reason in NO_INSTANCE else "is of an unknown type"
    return Fault("skipped", name, f"shape {number} ({label}) is a {reason}, which {what}", boxes)
