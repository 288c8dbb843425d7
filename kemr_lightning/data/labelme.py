"""Labelme's JSON: versions 3 to 6 and AutoKary2022's dialect, read and written.

Reading has three steps that know nothing of one another: `parse_labelme` understands a file, `load_image` finds and
decodes the image it speaks of, `read_labelme` does both. What to do with odd shapes is left to the caller, who finds
them counted in `LabelmeFile.skipped`.

Coordinates are pixel corners: Labelme draws pixel (0, 0) on [0, 1) x [0, 1). They refer to the upright image, since
Labelme applies the EXIF orientation when it opens a file; bytes it embeds are upright already and are shown as stored.
Files of other tools that do it the other way are recognised by their stated width and height.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kemr_lightning.data.annotation import Annotation, Polygon, clip_patch, polygon_area, to_instances
from kemr_lightning.data.image import IMAGE_SUFFIXES, IntensityImage, decode_mask, image_size, read_image_bytes
from kemr_lightning.errors import UserError
from kemr_lightning.instances import Instances, Patch

log = logging.getLogger(__name__)

FARTHEST = 1e5
"""Corners farther out than this many pixels are taken for damage."""

NO_INSTANCE = ("point", "points", "line", "linestrip")
"""Shape types that enclose nothing: counted and reported."""

_FILE_KEYS = (
    *("version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"),
    *("image_path", "image_data", "image_height", "image_width"),
)


@dataclass(frozen=True)
class LabelmeFile:
    """What one Labelme JSON says, without its image.

    Attributes:
        path: The JSON file.
        image_path: The image's path as written in the file, or None.
        image_size: ``(H, W)`` as stated in the file, or None.
        embedded: Whether the file carries the image.
        annotations: The instances, in the order of their first shapes.
        other_shapes: Points and lines, as they stand in the file.
        skipped: How often each kind of shape did not become an instance: the shape types of `NO_INSTANCE`, unknown
            shape types, ``"degenerate"`` (fewer than 3 corners, no area) and ``"outside"`` (a mask beyond the image).
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


@dataclass
class LabelmeInstances(Instances):
    """Instances that remember their class names and the annotations they came from, so that they can be written back.

    Attributes:
        label_names: Name of label 1, 2, …
        annotations: One per instance.
    """

    label_names: tuple[str, ...] = ()
    annotations: tuple[Annotation, ...] = ()

    def __getitem__(self, index: torch.Tensor | Sequence[int] | slice) -> LabelmeInstances:
        """Select instances as `Instances` does."""
        where = torch.arange(len(self))[torch.as_tensor(index) if not isinstance(index, slice) else index].tolist()
        part = super().__getitem__(index)
        chosen = tuple(self.annotations[position] for position in where)
        return LabelmeInstances(
            *(part.image_size, part.boxes, part.scores, part.labels, part.patches, part.disagreement),
            label_names=self.label_names,
            annotations=chosen,
        )


@dataclass(frozen=True)
class LabelmeImage:
    """One Labelme file with its image; unpacks as ``image, instances = read_labelme(path)``.

    Attributes:
        image: ``(H, W)`` uint8 intensity, or None where neither file nor embedded data exist.
        instances: The annotations rasterised at the image's size. Labels count the file's own class names, sorted.
        file: Everything else the file says.
        notices: What was unusual, in words.
    """

    image: npt.NDArray[np.uint8] | None
    instances: LabelmeInstances
    file: LabelmeFile
    notices: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter((self.image, self.instances))


def read_labelme(json_path: str | Path, root: str | Path | None = None) -> LabelmeImage:
    """Read a Labelme file and its image.

    Args:
        json_path: The JSON file.
        root: The folder that image paths may not leave; the JSON's own folder if None.

    Returns:
        Image and instances. Without an image, but with a stated size, ``image`` is None.

    Raises:
        UserError: The file is missing, broken or contradicts its image; or there is neither an image nor a size.
    """
    file, document = _parse(Path(json_path))
    notices: list[str] = []
    image: IntensityImage | None = None
    try:
        image = _load_image(file, document, Path(root) if root is not None else None, notices)
    except MissingImageError as error:
        if file.image_size is None:
            raise
        notices.append(str(error))
    for notice in notices:
        log.warning(notice)
    size = (int(image.pixels.shape[0]), int(image.pixels.shape[1])) if image is not None else file.image_size
    assert size is not None
    names = tuple(sorted({annotation.label for annotation in file.annotations}))
    plain, positions = to_instances(file.annotations, {name: i for i, name in enumerate(names, start=1)}, size)
    chosen = tuple(file.annotations[position] for position in positions)
    scores = torch.tensor([1.0 if a.score is None else a.score for a in chosen], dtype=torch.float32)
    instances = LabelmeInstances(
        *(size, plain.boxes, scores, plain.labels, plain.patches), label_names=names, annotations=chosen
    )
    return LabelmeImage(image.pixels if image is not None else None, instances, file, tuple(notices))


class MissingImageError(UserError):
    """The image that an annotation file speaks of is not there."""


def parse_labelme(json_path: str | Path) -> LabelmeFile:
    """Understand a Labelme file; the image is neither looked for nor decoded.

    Raises:
        UserError: The file is missing, is no JSON, or is not as Labelme writes it.
    """
    return _parse(Path(json_path))[0]


def load_image(file: LabelmeFile, root: Path | None = None) -> IntensityImage:
    """Decode the image a parsed file speaks of: the file at ``imagePath``, else the embedded bytes.

    Args:
        file: As `parse_labelme` gives it.
        root: The folder that image paths may not leave; the JSON's own folder if None.

    Raises:
        MissingImageError: There is no image.
        UserError: The image is damaged or has another size than stated.
    """
    document = _read_json(file.path) if file.embedded and find_image(file, root)[0] is None else {}
    notices: list[str] = []
    image = _load_image(file, document, root, notices)
    for notice in notices:
        log.debug(notice)
    return image


def check_image(file: LabelmeFile, root: Path | None = None) -> str | None:
    """Compare an image's header with the size its annotation file states, without decoding it.

    Returns:
        A notice if the image is not where the file says, else None.

    Raises:
        MissingImageError: There is no image.
        UserError: The image is no image or has another size than stated.
    """
    found, notice = find_image(file, root)
    if found is None and not file.embedded:
        raise _missing(file)
    if found is not None and file.image_size not in (None, image_size(found)):
        load_image(file, root)  # Raises, unless it is a matter of orientation.
    return notice


def is_labelme(document: object) -> bool:
    """Whether a JSON document looks like Labelme's: an object with a list of shapes."""
    return isinstance(document, dict) and isinstance(document.get("shapes"), list)


def find_image(file: LabelmeFile, root: Path | None = None) -> tuple[Path | None, str | None]:
    """Look for the image beside a parsed file.

    Returns:
        The image's path or None, and a notice if it was not where the file says.
    """
    folder = file.path.parent
    root = folder if root is None else root
    stated = (file.image_path or "").replace("\\", "/")
    if stated:
        there = Path(os.path.normpath(folder.absolute() / stated))
        inside = there.is_relative_to(os.path.normpath(root.absolute()))
        absolute = stated.startswith("/") or stated[1:2] == ":"
        if inside and there.is_file():
            return folder / stated if not absolute else there, None
        beside = folder / Path(stated).name
        if Path(stated).name and beside.is_file():
            why = "is elsewhere" if not inside or absolute else "is missing"
            return beside, f"{file.path}: imagePath {file.image_path!r} {why}; using {beside.name} beside the JSON."
    if file.embedded:
        return None, None
    for suffix in IMAGE_SUFFIXES:
        for same in (file.path.with_suffix(suffix), file.path.with_suffix(suffix.upper())):
            if same.is_file():
                return same, f"{file.path}: image {file.image_path!r} is missing; using {same.name} of the same name."
    return None, None


def _load_image(
    file: LabelmeFile, document: Mapping[str, Any], root: Path | None, notices: list[str]
) -> IntensityImage:
    found, notice = find_image(file, root)
    if notice is not None:
        notices.append(notice)
    if found is not None:
        data, name, orient = found.read_bytes(), str(found), True
    elif file.embedded:
        name, orient = f"the image in {file.path}", False
        try:
            data = base64.b64decode(_first(document, "imageData", "image_data"))
        except (binascii.Error, ValueError) as error:
            raise UserError(f"{file.path}: imageData is not base64. Save the file again in Labelme.") from error
    else:
        raise _missing(file)
    image = read_image_bytes(data, name, orient=orient)
    size = (int(image.pixels.shape[0]), int(image.pixels.shape[1]))
    if file.image_size is None or size == file.image_size:
        return image
    if image.orientation != 1:
        other = read_image_bytes(data, name, orient=not orient)
        if other.pixels.shape == file.image_size:
            notices.append(f"{name}: EXIF orientation {'ignored' if orient else 'applied'} to match the stated size.")
            return other
    height, width = file.image_size
    raise UserError(
        f"{file.path}: the file says {width}x{height} but {Path(name).name} is {size[1]}x{size[0]}. "
        "Use the image that was annotated, or correct imageWidth and imageHeight."
    )


def _missing(file: LabelmeFile) -> MissingImageError:
    return MissingImageError(
        f"{file.path}: image {file.image_path!r} is not there and none is embedded. Put the image beside the JSON."
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror or error}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is not valid JSON ({reason}). Save it again in Labelme or remove it.") from error
    if not is_labelme(document):
        raise UserError(f"{path} is not a Labelme file: it has no list of shapes. Remove it or save it in Labelme.")
    return dict(document)


def _parse(path: Path) -> tuple[LabelmeFile, dict[str, Any]]:
    document = _read_json(path)
    size = _stated_size(path, document)
    stated = _first(document, "imagePath", "image_path")
    groups: dict[tuple[str, Any], list[_Shape]] = {}
    skipped: Counter[str] = Counter()
    others: list[Mapping[str, Any]] = []
    for number, raw in enumerate(document["shapes"], start=1):
        shape = _parse_shape(f"{path}: shape {number}", raw)
        part = _geometry(f"{path}: shape {number}", shape, size)
        if isinstance(part, str):
            skipped[part] += 1
            if part != "degenerate":
                others.append(raw)
            continue
        # Ungrouped shapes stay apart: their position makes the key unique.
        group = shape.group_id
        key = (shape.label, ("group", group) if group is not None else number)
        groups.setdefault(key, []).append(shape)
        shape.part = part
    version, image_flags = document.get("version"), document.get("flags")
    return LabelmeFile(
        path=path,
        image_path=stated if isinstance(stated, str) and stated else None,
        image_size=size,
        embedded=bool(_first(document, "imageData", "image_data")),
        annotations=tuple(_join(shapes) for shapes in groups.values()),
        other_shapes=tuple(others),
        skipped=dict(skipped),
        version=None if version is None else str(version),
        flags=dict(image_flags) if isinstance(image_flags, dict) else {},
        other_data={key: value for key, value in document.items() if key not in _FILE_KEYS},
    ), document


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
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} has points that are not numbers. Save the file again in Labelme.") from error
    if corners.size == 0:
        corners = corners.reshape(0, 2)
    if corners.ndim != 2 or corners.shape[1] != 2 or not np.isfinite(corners).all():
        raise UserError(f"{where} has points that are not finite (x, y) pairs. Draw it again in Labelme.")
    if np.abs(corners).max(initial=0.0) > FARTHEST:
        raise UserError(f"{where} has a corner beyond {FARTHEST:.0f} px. Draw it again in Labelme.")
    kind = raw.get("shape_type") or "polygon"  # Files before version 3.16 have polygons only and no type.
    group = raw.get("group_id")
    if group is not None and not isinstance(group, int | str):
        raise UserError(f"{where} has group_id {group!r}. Give a whole number or none.")
    return _Shape(raw, str(label).strip(), str(kind), corners, group)


def _geometry(where: str, shape: _Shape, size: tuple[int, int] | None) -> Polygon | Patch | str:
    """The outline or bitmap of a shape, or the reason why it has none."""
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
    elif kind in ("polygon", "rectangle", "oriented_rectangle", "rotation"):
        outline = points
    elif kind == "circle":
        return "degenerate"
    else:
        return kind
    return outline if len(outline) >= 3 and polygon_area(outline) > 0 else "degenerate"


def circle_polygon(centre: npt.NDArray[np.float64], radius: float) -> Polygon:
    """A circle as a regular polygon of the same area, at most a hundredth of a pixel from the circle."""
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
        values = decode_mask(base64.b64decode(coded))
    except (UserError, binascii.Error, ValueError) as error:
        raise UserError(f"{where} has a mask that is no base64 PNG. Draw it again in Labelme.") from error
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
    """The score in a description such as ``{"score": 0.97}``, the form Labelme's own predictions have."""
    try:
        value = json.loads(description)
    except ValueError:
        return None
    score = value.get("score") if isinstance(value, dict) else None
    return float(score) if isinstance(score, int | float) and 0 <= score <= 1 else None


def _stated_size(path: Path, document: Mapping[str, Any]) -> tuple[int, int] | None:
    height = _first(document, "imageHeight", "image_height")
    width = _first(document, "imageWidth", "image_width")
    if height is None or width is None:
        return None
    if not all(isinstance(value, int | float) and value > 0 and value == int(value) for value in (height, width)):
        raise UserError(
            f"{path}: image size {width!r} x {height!r} makes no sense. Correct imageWidth and imageHeight."
        )
    return int(height), int(width)


def _first(document: Mapping[str, Any], *keys: str) -> Any:
    return next((document[key] for key in keys if document.get(key) is not None), None)
