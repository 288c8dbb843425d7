"""The content of one Labelme JSON file as annotations; its image is neither looked for nor decoded."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import FARTHEST, Annotation, Polygon, clip_patch, polygon_area
from kemr_lightning.data.folder import read_json
from kemr_lightning.data.image import decode_mask

NO_INSTANCE = ("point", "points", "line", "linestrip")
"""Shape types that enclose nothing; they are counted and reported."""

OUTLINES = ("polygon", "rectangle", "oriented_rectangle", "rotation", "quadrilateral")
"""Shape types whose points are the corners of an outline; the last two are those of programs that extend Labelme."""

_FILE_KEYS = (
    *("version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"),
    *("image_path", "image_data", "image_height", "image_width"),
)


@dataclass(frozen=True)
class LabelmeFile:
    """The content of one Labelme JSON file, without its image.

    Attributes:
        path: The JSON file.
        image_path: The image's path as written in the file, or None.
        image_size: ``(H, W)`` as stated in the file, or None.
        embedded: Whether the file contains the image.
        annotations: The instances, in the order of their first shapes.
        other_shapes: Points and lines, as they stand in the file.
        skipped: How many shapes of each kind did not become instances. The kinds are the shape types of
            `NO_INSTANCE`, unknown shape types, ``"degenerate"`` (fewer than 3 corners, or no area) and ``"outside"``
            (a mask beyond the image).
        version: The file's version, or None.
        flags: The image's flags.
        other_data: Keys of the file that Labelme does not know.
    """

    path: Path
    image_path: str | None
    image_size: tuple[int, int] | None
    embedded: bool
    annotations: tuple[Annotation, ...]
    other_shapes: tuple[Mapping[str, Any], ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    version: str | None = None
    flags: Mapping[str, bool] = field(default_factory=dict)
    other_data: Mapping[str, Any] = field(default_factory=dict)


class NotLabelmeError(UserError):
    """A JSON file of another kind."""


def parse_labelme(json_path: str | Path) -> LabelmeFile:
    """Parse a Labelme file. The image is neither looked for nor decoded.

    Raises:
        UserError: The file is missing, is not JSON, or is not what Labelme writes.
    """
    return parse_document(Path(json_path))[0]


def is_labelme(document: object) -> bool:
    """Whether a JSON document looks like Labelme's: an object with a list of shapes."""
    return isinstance(document, dict) and isinstance(document.get("shapes"), list)


def read_document(path: Path) -> dict[str, Any]:
    """The JSON object of a Labelme file.

    Raises:
        UserError: The file is missing, is not JSON, or has no list of shapes.
    """
    document = read_json(path, "Save it again in Labelme or remove it.")
    if not is_labelme(document):
        coco = isinstance(document, dict) and "images" in document and "annotations" in document
        cure = "It looks like COCO: read the folder as COCO." if coco else "Remove it or save it again in Labelme."
        raise NotLabelmeError(f"{path} is not a Labelme file: it has no list of shapes. {cure}")
    return dict(document)


def parse_document(path: Path) -> tuple[LabelmeFile, dict[str, Any]]:
    """As `parse_labelme`, and the JSON object itself, which may contain the image.

    Raises:
        UserError: As `parse_labelme`.
    """
    document = read_document(path)
    return interpret(path, document), document


def interpret(path: Path, document: Mapping[str, Any], first: int = 1) -> LabelmeFile:
    """Interpret the JSON object of a Labelme file.

    Args:
        path: The file, for messages.
        document: As `read_document` returns it: with a list of shapes.
        first: Number of the first shape, for messages.

    Raises:
        UserError: It is not what Labelme writes.
    """
    size = _stated_size(path, document)
    stated = first_of(document, "imagePath", "image_path")
    groups: dict[tuple[str, Any], list[_Shape]] = {}
    skipped: Counter[str] = Counter()
    others: list[Mapping[str, Any]] = []
    for number, raw in enumerate(document["shapes"], start=first):
        shape = _parse_shape(f"{path}: shape {number}", raw)
        part = _geometry(f"{path}: shape {number}", shape, size)
        if isinstance(part, str):
            skipped[part] += 1
            if part != "degenerate":
                others.append(raw)
            continue
        # Shapes without a group stay apart: their position makes the key unique.
        group = shape.group_id
        key = (shape.label, ("group", group) if group is not None else number)
        groups.setdefault(key, []).append(shape)
        shape.part = part
    version, image_flags = document.get("version"), document.get("flags")
    return LabelmeFile(
        path=path,
        image_path=stated if isinstance(stated, str) and stated else None,
        image_size=size,
        embedded=bool(first_of(document, "imageData", "image_data")),
        annotations=tuple(_join(shapes) for shapes in groups.values()),
        other_shapes=tuple(others),
        skipped=dict(skipped),
        version=None if version is None else str(version),
        flags=dict(image_flags) if isinstance(image_flags, dict) else {},
        other_data={key: value for key, value in document.items() if key not in _FILE_KEYS},
    )


@dataclass
class _Shape:
    """One checked shape."""

    raw: Mapping[str, Any]
    label: str
    kind: str
    points: Polygon
    group_id: int | str | None
    part: Polygon | Patch | None = None


def _parse_shape(where: str, raw: object) -> _Shape:
    """Check one shape; ``where`` begins every message."""
    if not isinstance(raw, dict):
        raise UserError(f"{where} is not an object. Save the file again in Labelme.")
    label, points = raw.get("label"), raw.get("points")
    if not isinstance(label, str | int) or str(label).strip() == "":
        raise UserError(f"{where} has no label. Give it one in Labelme.")
    try:
        corners = np.array(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{where} has points that are not numbers. Save the file again in Labelme.") from error
    if corners.size == 0:
        corners = corners.reshape(0, 2)
    if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
        raise UserError(f"{where} has points that are not finite (x, y) pairs. Draw it again in Labelme.")
    if np.abs(corners).max(initial=0.0) > FARTHEST:
        raise UserError(f"{where} has a corner beyond {FARTHEST:.0f} px. Draw it again in Labelme.")
    kind = raw.get("shape_type") or "polygon"  # Before version 3.16 all shapes were polygons, and had no type.
    group = None if raw.get("group_id") == "" else raw.get("group_id")
    if isinstance(group, float) and group.is_integer():
        group = int(group)
    if group is not None and not isinstance(group, int | str):
        raise UserError(f"{where} has group_id {group!r}. Give a whole number or none.")
    return _Shape(raw, str(label).strip(), str(kind), corners, group)


def _geometry(where: str, shape: _Shape, size: tuple[int, int] | None) -> Polygon | Patch | str:
    """The outline or bitmap of a shape, or the kind of shape that has none (see `LabelmeFile.skipped`)."""
    points, kind = shape.points, shape.kind
    if kind in NO_INSTANCE:
        return kind
    if kind == "mask":
        return _mask_patch(where, shape, size)
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        outline = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    elif kind == "circle" and len(points) == 2:
        outline = circle_polygon(points[0], float(np.hypot(*(points[1] - points[0]))))
    elif kind in OUTLINES:
        outline = points
    elif kind == "circle":
        return "degenerate"
    else:
        return kind
    return outline if len(outline) >= 3 and polygon_area(outline) > 0 else "degenerate"


def circle_polygon(centre: npt.NDArray[np.float64], radius: float) -> Polygon:
    """A circle as a regular polygon of the same area that deviates by at most a hundredth of a pixel.

    Args:
        centre: ``(x, y)``.
        radius: In pixels.
    """
    if radius <= 0:
        return np.repeat(centre[None], 3, axis=0)
    corners = max(16, math.ceil(math.pi / math.acos(max(1 - 0.01 / radius, -1.0))))
    angles = np.arange(corners) * (2 * math.pi / corners)
    out = radius * math.sqrt(2 * math.pi / (corners * math.sin(2 * math.pi / corners)))
    polygon: Polygon = centre + out * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return polygon


def _mask_patch(where: str, shape: _Shape, size: tuple[int, int] | None) -> Patch | str:
    """A mask shape: a base64 PNG whose first pixel lies at the first point."""
    coded = shape.raw.get("mask")
    if not isinstance(coded, str) or len(shape.points) == 0:
        raise UserError(f"{where} is a mask without its PNG or its corners. Draw it again in Labelme.")
    try:
        values = decode_mask(base64.b64decode(coded), size)
    except (UserError, binascii.Error, ValueError) as error:
        raise UserError(f"{where} has a mask that is not a base64 PNG. Draw it again in Labelme.") from error
    if not values.any():
        return "degenerate"
    x0, y0 = (math.floor(value) for value in shape.points.min(axis=0))
    patch = Patch(x0, y0, torch.from_numpy(values))
    inside = clip_patch(patch, size if size is not None else (2**31, 2**31))
    return inside if inside is not None and bool(inside.values.any()) else "outside"


def _join(shapes: Sequence[_Shape]) -> Annotation:
    """One instance from the shapes of one group."""
    descriptions = [text for shape in shapes if isinstance(text := shape.raw.get("description"), str) and text]
    flags: dict[str, bool] = {}
    for shape in shapes:
        marks = shape.raw.get("flags")
        for name, value in marks.items() if isinstance(marks, dict) else ():
            flags[str(name)] = flags.get(str(name), False) or bool(value)
    return Annotation(
        label=shapes[0].label,
        polygons=tuple(shape.part for shape in shapes if isinstance(shape.part, np.ndarray)),
        patches=tuple(shape.part for shape in shapes if isinstance(shape.part, Patch)),
        score=next((score for text in descriptions if (score := _score(text)) is not None), None),
        description=descriptions[0] if descriptions else "",
        flags=flags,
        group_id=shapes[0].group_id,
        raw=tuple(shape.raw for shape in shapes),
    )


def _score(description: str) -> float | None:
    """The score in a description such as ``{"score": 0.97}``, which is how Labelme writes its own predictions."""
    try:
        value = json.loads(description)
    except (ValueError, RecursionError):
        return None
    score = value.get("score") if isinstance(value, dict) else None
    return float(score) if isinstance(score, int | float) and 0 <= score <= 1 else None


def _stated_size(path: Path, document: Mapping[str, Any]) -> tuple[int, int] | None:
    height = first_of(document, "imageHeight", "image_height")
    width = first_of(document, "imageWidth", "image_width")
    if height is None or width is None:
        return None
    if not all(isinstance(side, int | float) and 0 < side < FARTHEST and side == int(side) for side in (height, width)):
        raise UserError(
            f"{path}: image size {width!r} x {height!r} makes no sense. Correct imageWidth and imageHeight."
        )
    return int(height), int(width)


def first_of(document: Mapping[str, Any], *keys: str) -> Any:
    """The value of the first key that exists and is not null, or None."""
    return next((document[key] for key in keys if document.get(key) is not None), None)
