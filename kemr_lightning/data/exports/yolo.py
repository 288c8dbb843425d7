"""YOLO's text files, one for each image: outlines or boxes as fractions of the image's sides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.exports.images import ImageIndex
from kemr_lightning.data.exports.shapes import boxed, outlined
from kemr_lightning.data.exports.source import Export, ExportFormat
from kemr_lightning.data.folder import read_text, walk
from kemr_lightning.data.image import image_size

LISTS = ("classes.txt", "obj.names", "labels.txt")
"""Files with a class name in each line, if no YAML has them."""


class YoloFormat(ExportFormat):
    """Text files beside the images, or in ``labels/`` where the images are in ``images/``, and a YAML with the names.

    A line is a class and the corners of its outline, or a class, the middle and the sides of a box; a score may follow.
    Instances of several parts are one outline with seams, as Ultralytics writes them. Images without a text file are
    not annotated, those with an empty one have no instance.
    """

    name = "yolo"
    config = "yolo"

    def read(self, root: Path, images: ImageIndex) -> Export:
        """See `ExportFormat.read`."""
        export = Export()
        names = _class_names(root)
        for image in images.files:
            path = _labels_of(root, image)
            if path is None:
                continue
            try:
                height, width = image_size(image)
                found = _annotations(path, names, (width, height), export)
            except UserError as error:
                export.faults.append(str(error))
                continue
            export.add(str(path), image, found)
        if not export.images and not export.faults:
            raise UserError(f"{root} has no YOLO text files beside its images or in labels/. Give the folder that does")
        return export


def _labels_of(root: Path, image: Path) -> Path | None:
    """The text file of an image, or None."""
    parts = list(image.relative_to(root).with_suffix(".txt").parts)
    candidates = [root.joinpath(*parts)]
    for position in [position for position, part in enumerate(parts) if part == "images"][::-1]:
        candidates.insert(0, root.joinpath(*parts[:position], "labels", *parts[position + 1 :]))
    return next((path for path in candidates if path.is_file() and path.name not in LISTS), None)


def _class_names(root: Path) -> dict[int, str]:
    """The names of classes 0, 1, ... as the folder gives them; empty if it does not.

    Raises:
        UserError: A file of names cannot be read.
    """
    for path in walk(root, [".yaml", ".yml"]):
        try:
            # Names are texts, whatever YAML would make of them.
            document = yaml.load(read_text(path), Loader=yaml.BaseLoader)
        except yaml.YAMLError as error:
            raise UserError(f"{path} is not YAML ({' '.join(str(error).split())[:120]}). Correct it") from error
        names = document.get("names") if isinstance(document, Mapping) else None
        if isinstance(names, Mapping) and all(str(key).isdecimal() for key in names):
            return {int(key): str(name) for key, name in names.items()}
        if isinstance(names, list):
            return {number: str(name) for number, name in enumerate(names)}
    for name in LISTS:
        if (path := root / name).is_file():
            lines = [line.strip() for line in read_text(path).splitlines()]
            return {number: line for number, line in enumerate(lines) if line}
    return {}


def _annotations(path: Path, names: Mapping[int, str], sides: tuple[int, int], export: Export) -> list[Annotation]:
    """The annotations of one file; shapes without area are counted in the export.

    Args:
        path: The file.
        names: Class names by number; a class without one is called by its number.
        sides: Width and height of the image.
        export: Counts what is left out.

    Raises:
        UserError: A line is not YOLO's.
    """
    found: list[Annotation] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            label = names.get(int(words[0]), words[0])
            shape = _shape(label, [float(word) for word in words[1:]], sides)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: {error}. Export it again.") from error
        if isinstance(shape, str):
            export.skipped[shape] += 1
        else:
            found.append(shape)
    return found


def _shape(label: str, values: list[float], sides: tuple[int, int]) -> Annotation | str:
    if len(values) < 4:
        raise ValueError("neither an outline nor a box")
    if any(not -1 <= value <= 2 for value in values):
        raise ValueError("a number is no fraction of the image's side")
    across, down = sides
    if len(values) <= 5:
        x, y, width, height = values[:4]
        corners = ((x - width / 2) * across, (y - height / 2) * down, (x + width / 2) * across, (y + height / 2) * down)
        return boxed(label, corners)
    values = values[: len(values) // 2 * 2]  # without the score
    return outlined(label, [[x * across, y * down] for x, y in zip(values[::2], values[1::2], strict=True)])
