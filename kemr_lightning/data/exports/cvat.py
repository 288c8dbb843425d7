"""CVAT's own XML, of images and of videos."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import Annotation, tight_patch
from kemr_lightning.data.exports.images import ImageIndex
from kemr_lightning.data.exports.shapes import boxed, ellipse, outlined
from kemr_lightning.data.exports.source import Export, ExportFormat, join_groups
from kemr_lightning.data.folder import walk
from kemr_lightning.data.split import part_named

SHAPES = ("polygon", "mask", "box", "ellipse")
OTHERS = ("polyline", "points", "cuboid", "skeleton")


class CvatFormat(ExportFormat):
    """``annotations.xml`` beside ``images/`` ("CVAT for images" or "for video" 1.1).

    Shapes of one label and group are parts of one instance. A subset of a project (``Train``) is a part.
    """

    name = "cvat"
    config = "cvat"

    def read(self, root: Path, images: ImageIndex) -> Export:
        """See `ExportFormat.read`."""
        export = Export()
        files = 0
        for path in walk(root, [".xml"]):
            try:
                tree = ET.parse(path).getroot()
            except (ET.ParseError, ValueError, LookupError, OSError) as error:
                raise UserError(f"{path} is not valid XML ({error}). Export it again.") from error
            if tree.tag != "annotations":
                raise UserError(f"{path} is no XML of CVAT: it begins with <{tree.tag}>. Read it as another format.")
            files += 1
            try:
                _add_images(path, tree, images, export)
                _add_frames(path, tree, images, export)
            except UserError as error:
                export.faults.append(str(error))
        if not files:
            raise UserError(f"{root} has no XML of CVAT. Export “CVAT for images” and give its folder")
        return export


def _add_images(path: Path, tree: ET.Element, images: ImageIndex, export: Export) -> None:
    """Add the images of an export of images."""
    for item in tree.iter("image"):
        name = item.get("name", "")
        found = _annotations(f"{path}: {name}", item, export)
        size = (int(item.get("height", 0)), int(item.get("width", 0)))
        part = part_named(item.get("subset", "").lower())
        export.add(f"{path}: {name}", images.find(name, path), found, size=size if all(size) else None, part=part)


def _add_frames(path: Path, tree: ET.Element, images: ImageIndex, export: Export) -> None:
    """Add the frames of an export of a video, whose shapes are in tracks."""
    frames: dict[int, list[ET.Element]] = defaultdict(list)
    for track in tree.iter("track"):
        for shape in track:
            if shape.get("outside") != "1" and (shape.get("frame") or "").isdecimal():
                shape.set("label", track.get("label", ""))
                shape.set("group_id", track.get("group_id", "0"))
                frames[int(shape.get("frame", 0))].append(shape)
    for number, shapes in sorted(frames.items()):
        name = f"frame_{number:06d}"
        found = _annotations(f"{path}: {name}", shapes, export)
        export.add(f"{path}: {name}", images.find(name, path), found)


def _annotations(where: str, shapes: Iterable[ET.Element], export: Export) -> list[Annotation]:
    """The annotations of one image; what is no instance is counted in the export.

    Args:
        where: Begins every message.
        shapes: Elements; those that are no shapes are passed over.
        export: Counts what is left out.

    Raises:
        UserError: A shape cannot be understood.
    """
    found: list[Annotation] = []
    for shape in shapes:
        if shape.tag in OTHERS:
            export.skipped[shape.tag] += 1
        if shape.tag not in SHAPES:
            continue
        try:
            made = _annotation(shape)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{where} has a {shape.tag} that is not CVAT's ({error}). Export it again.") from error
        if isinstance(made, str):
            export.skipped[made] += 1
        else:
            found.append(made)
    return join_groups(found)


def _annotation(shape: ET.Element) -> Annotation | str:
    of = shape.attrib
    label, turn = of["label"], float(of.get("rotation", 0))
    group = int(of.get("group_id") or 0) or None
    if shape.tag == "polygon":
        return outlined(label, [[float(v) for v in point.split(",")] for point in of["points"].split(";")], group)
    if shape.tag == "box":
        return boxed(label, [float(of[side]) for side in ("xtl", "ytl", "xbr", "ybr")], turn, group)
    if shape.tag == "ellipse":
        centre, radii = (float(of["cx"]), float(of["cy"])), (float(of["rx"]), float(of["ry"]))
        return outlined(label, ellipse(centre, radii, turn), group)
    patch = _mask(of["rle"], int(of["width"]), int(of["height"]), int(of["left"]), int(of["top"]))
    return "degenerate" if patch is None else Annotation(label, patches=(patch,), group_id=group)


def _mask(text: str, width: int, height: int, left: int, top: int) -> Patch | None:
    """A mask from its run lengths along the rows of its window, zeros first.

    Raises:
        ValueError: The runs do not add up to the window.
    """
    counts = np.array([int(word) for word in text.split(",")], dtype=np.int64)
    if counts.sum() != width * height or (counts < 0).any() or left < 0 or top < 0:
        raise ValueError(f"its runs do not add up to {width}x{height} pixels")
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)
    return tight_patch(torch.from_numpy(values).numpy(), left, top)
