"""Pascal VOC: an XML file for each image, with boxes."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.exports.images import ImageIndex
from kemr_lightning.data.exports.shapes import boxed, outlined
from kemr_lightning.data.exports.source import Export, ExportedImage, ExportFormat
from kemr_lightning.data.folder import walk

CORNERS = ("xmin", "ymin", "xmax", "ymax")


class VocFormat(ExportFormat):
    """XML files beside the images, or in ``Annotations/`` with the images in ``JPEGImages/``.

    Boxes of the original data set count pixels from 1 and include the last one; programs of today write corners. Only
    a 0 or a fraction tells which it is. Without one, boxes begin half a pixel before the stated corner, so that they
    are at most half a pixel off either way.
    """

    name = "voc"
    config = "voc"

    def read(self, root: Path, images: ImageIndex) -> Export:
        """See `ExportFormat.read`."""
        export = Export()
        files = walk(root, [".xml"])
        for path in files:
            try:
                _read(path, images, export)
            except UserError as error:
                export.faults.append(str(error))
        if not files:
            raise UserError(f"{root} has no Pascal VOC XML. Give the folder that holds images and XML files")
        boxes = [each.box for image in export.images for each in image.annotations if each.box is not None]
        if not any(value == 0 or value != int(value) for box in boxes for value in box):
            export.images = [_half_a_pixel_off(image) for image in export.images]
        return export


def _read(path: Path, images: ImageIndex, export: Export) -> None:
    """Add the image of one file to an export."""
    try:
        tree = ET.parse(path).getroot()
    except (ET.ParseError, ValueError, LookupError, OSError) as error:
        raise UserError(f"{path} is not valid XML ({error}). Export it again.") from error
    if tree.tag != "annotation":
        raise UserError(f"{path} is no Pascal VOC file: it begins with <{tree.tag}>. Read it as another format.")
    found: list[Annotation] = []
    for number, item in enumerate(tree.iter("object"), start=1):
        label = (item.findtext("name") or "").strip()
        try:
            shape = _shape(label, item)
        except (TypeError, ValueError) as error:
            raise UserError(f"{path}: object {number} ({label}) has no box of numbers. Export it again.") from error
        if isinstance(shape, str):
            export.skipped[shape] += 1
        else:
            found.append(shape)
    try:
        sides = [int(float(tree.findtext(f"size/{side}") or 0)) for side in ("height", "width")]
    except ValueError as error:
        raise UserError(f"{path}: the size of its image is not a number. Correct it.") from error
    stated = tree.findtext("filename") or path.stem
    image = images.find(stated, path) or images.find(path.stem, path)
    export.add(str(path), image, found, size=(sides[0], sides[1]) if all(sides) else None)


def _shape(label: str, item: ET.Element) -> Annotation | str:
    if not label:
        raise ValueError("no label")
    polygon = item.find("polygon")
    if polygon is not None:  # an extension of some programs: x1, y1, x2, y2, ...
        values = {corner.tag: float(corner.text or "") for corner in polygon}
        count = len(values) // 2
        return outlined(label, [[values[f"x{n}"], values[f"y{n}"]] for n in range(1, count + 1)])
    box = item.find("bndbox")
    if box is None:
        return "shapes without a box"
    return boxed(label, [float(box.findtext(corner) or "") for corner in CORNERS])


def _half_a_pixel_off(image: ExportedImage) -> ExportedImage:
    moved = [
        a if a.box is None else replace(a, box=(a.box[0] - 0.5, a.box[1] - 0.5, a.box[2], a.box[3]))
        for a in image.annotations
    ]
    return replace(image, annotations=tuple(moved))
