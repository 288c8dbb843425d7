"""The content of one COCO file as records; faults in it are collected and do not stop the reading."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from kemr_lightning.core import rle
from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation import FARTHEST, Annotation, polygon_area
from kemr_lightning.data.folder import read_json
from kemr_lightning.data.image import image_size, read_image
from kemr_lightning.data.names import AmbiguousNameError, find_alike
from kemr_lightning.data.record import Record
from kemr_lightning.data.survey import FaultKind


@dataclass(frozen=True)
class CocoFault:
    """Something wrong with an image or annotation of a COCO file.

    Attributes:
        kind: See `kemr_lightning.data.survey.FaultKind`.
        message: What is wrong and what to do about it.
        image: The image file, if it is about one that exists.
    """

    kind: FaultKind
    message: str
    image: Path | None = None


@dataclass(frozen=True)
class CocoContents:
    """The content of one COCO file.

    Attributes:
        records: Its images, as far as they can be read, in the file's order.
        faults: What is wrong with images and annotations.
        skipped: How many annotations of each kind (``"degenerate"``) did not become instances.
        skipped: How many annotations of each kind, ``"crowd"`` or ``"degenerate"``, did not become instances.
        notices: What is unusual about the names of images, one sentence each.
    """

    records: list[Record]
    faults: list[CocoFault]
    skipped: Mapping[str, int]
    notices: tuple[str, ...] = ()


def parse_coco(path: Path, root: Path, folder: Path) -> CocoContents:
    """Parse a COCO file; faults of single images and annotations are collected.

    Args:
        path: The JSON.
        root: The data root: names are relative to it, and images may not lie outside it.
        folder: Images are looked for in this folder too, besides the JSON's folder and the root.

    Raises:
        UserError: The file cannot be read at all: it is not a COCO file, or the ids of its images or categories or a
            stated size make no sense.
    """
    records: list[Record] = []
    faults: list[CocoFault] = []
    skipped: Counter[str] = Counter()
    document = _read(path)
    names = _categories(path, document)
    by_image: dict[Any, list[Annotation]] = {}
    sizes: dict[Any, tuple[int, int] | None] = {}
    for image in document["images"]:
        _check_id(path, image, by_image)
        by_image[image["id"]] = []
        sizes[image["id"]] = _stated_size(path, image)
    for raw in document["annotations"]:
        try:
            parsed = _annotation(path, raw, names, sizes)
        except UserError as error:
            faults.append(CocoFault("broken_shape", str(error)))
            continue
        if isinstance(parsed, str):
            skipped[parsed] += 1
        else:
            by_image[raw["image_id"]].append(parsed)
    notices: list[str] = []
    for image in document["images"]:
        found = _image(path, image, sizes[image["id"]], root, folder)
        if isinstance(found, CocoFault):
            faults.append(found)
            continue
        notices += [] if found.notice is None else [found.notice]
        case = image.get("case")
        record = Record(
            name=found.path.relative_to(root).as_posix(),
            path=found.path,
            load=functools.partial(read_image, found.path, orient=found.orient),
            annotations=tuple(by_image[image["id"]]),
            group=None if case is None else str(case),
            stated_size=sizes[image["id"]],
        )
        records.append(record)
    return CocoContents(records, faults, skipped, tuple(notices))


def _read(path: Path) -> Mapping[str, Any]:
    document = read_json(path, "Export it again.")
    keys = ("images", "annotations", "categories")
    if not isinstance(document, dict) or not all(
        isinstance(document.get(key), list) and all(isinstance(item, dict) for item in document[key]) for key in keys
    ):
        raise UserError(f"{path} is not a COCO file: it needs lists of images, annotations and categories.")
    return document


def _categories(path: Path, document: Mapping[str, Any]) -> dict[Any, str]:
    try:
        return {category["id"]: str(category["name"]) for category in document["categories"]}
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: a category lacks its id or name. Export it again.") from error


def _check_id(path: Path, image: Mapping[str, Any], known: Mapping[Any, object]) -> None:
    number = image.get("id")
    if not isinstance(number, int | float | str):
        raise UserError(f"{path}: image {image.get('file_name')!r} has no id. Export it again.")
    if number in known:
        raise UserError(f"{path}: two images have the id {number!r}. Export it again.")


def _stated_size(path: Path, image: Mapping[str, Any]) -> tuple[int, int] | None:
    """The size ``(H, W)`` of an image according to the file, or None."""
    height, width = image.get("height"), image.get("width")
    if height is None or width is None:
        return None
    if not all(isinstance(side, int | float) and 0 < side < FARTHEST and side == int(side) for side in (height, width)):
        raise UserError(
            f"{path}: image {image.get('file_name')!r} of size {width!r} x {height!r} makes no sense. Correct the size."
        )
    return int(height), int(width)


def _annotation(
    path: Path, raw: Mapping[str, Any], names: Mapping[Any, str], sizes: Mapping[Any, tuple[int, int] | None]
) -> Annotation | str:
    """One annotation, or the kind of annotation that is not an instance (see `CocoContents.skipped`)."""
    where = f"{path}: annotation {raw.get('id')}"
    if not isinstance(raw.get("image_id"), int | float | str) or raw["image_id"] not in sizes:
        raise UserError(f"{where} is of image {raw.get('image_id')!r}, which is not listed. Export it again.")
    if not isinstance(raw.get("category_id"), int | float | str) or raw["category_id"] not in names:
        raise UserError(f"{where} has category {raw.get('category_id')!r}, which is not listed. Export it again.")
    found = _shape(where, raw, names[raw["category_id"]], sizes[raw["image_id"]])
    return replace(found, crowd=True) if raw.get("iscrowd") and isinstance(found, Annotation) else found


def _shape(where: str, raw: Mapping[str, Any], label: str, stated: tuple[int, int] | None) -> Annotation | str:
    """The outlines, the bitmap or the box of one annotation, or why it has none.

    Args:
        where: Begins every message.
        raw: The annotation.
        label: Its class.
        stated: ``(H, W)`` of the image according to the file, or None.
    """
    shape = raw.get("segmentation")
    try:
        if isinstance(shape, dict):
            height, width = (int(side) for side in shape["size"])
            if stated is not None and (height, width) != stated:
                raise UserError(
                    f"{where}: its mask is {width}x{height}, its image {stated[1]}x{stated[0]}. Export again."
                )
            coded = coco_mask.frPyObjects(shape, height, width) if isinstance(shape["counts"], list) else shape
            patch = rle.decode(rle.RLE(size=[height, width], counts=coded["counts"]))
            return Annotation(label, patches=(patch,)) if bool(patch.values.any()) else "degenerate"
        if shape and any(len(part) for part in shape):
            outlines = [np.array(part, dtype=np.float64).reshape(-1, 2) for part in shape]
            if not all((np.abs(outline) <= FARTHEST).all() for outline in outlines):
                raise ValueError("not finite, or far beyond any image")
            polygons = tuple(outline for outline in outlines if len(outline) >= 3 and polygon_area(outline) > 0)
            return Annotation(label, polygons=polygons) if polygons else "degenerate"
        x, y, across, down = (float(value) for value in raw["bbox"])
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UserError(f"{where} has a segmentation or bbox that is not COCO's. Export it again.") from error
    if not (np.abs([x, y, across, down]) <= FARTHEST).all() or across <= 0 or down <= 0:
        return "degenerate"
    return Annotation(label, box=(x, y, x + across, y + down))


@dataclass(frozen=True)
class _Image:
    """An image file, whether its EXIF orientation is applied, and what is unusual about its name."""

    path: Path
    orient: bool
    notice: str | None


def _image(
    path: Path, image: Mapping[str, Any], stated: tuple[int, int] | None, root: Path, folder: Path
) -> _Image | CocoFault:
    """The file of an image, or what is wrong with it.

    Args:
        path: The JSON.
        image: The image's entry in it.
        stated: ``(H, W)`` according to the entry, or None.
        root: As in `parse_coco`.
        folder: As in `parse_coco`.
    """
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        return CocoFault("broken_shape", f"{path}: image {image.get('id')!r} has no file_name. Export it again.")
    notice = None
    try:
        found, exact = _find(name.replace("\\", "/"), path, root, folder)
    except AmbiguousNameError as error:
        return CocoFault("missing_image", f"{path}: image {error}")
    if found is not None and not exact:
        notice = f"{path}: image {name!r} is taken to be {found.relative_to(root).as_posix()}."
    if found is None:
        cure = "Put it beside the JSON or into images/."
        return CocoFault("missing_image", f"{path}: image {name!r} is not there. {cure}")
    try:
        if stated is None or stated == (size := image_size(found)):
            return _Image(found, True, notice)
        if image_size(found, orient=False) == stated:
            return _Image(found, False, notice)
    except UserError as error:
        return CocoFault("broken_image", str(error), found)
    message = (
        f"{path}: image {name!r} is {size[1]}x{size[0]}, the file says {stated[1]}x{stated[0]}. "
        "Use the image that was annotated."
    )
    return CocoFault("size_mismatch", message, found)


def _find(name: str, path: Path, root: Path, folder: Path) -> tuple[Path | None, bool]:
    """The image of a name, as written or else by its last part, in the places where COCO folders keep images.

    Returns:
        The image, and whether it has exactly this name.

    Raises:
        AmbiguousNameError: Only other spellings of the name are there, and more than one.
    """
    subset = path.stem.removeprefix("instances_")  # CVAT keeps the images of instances_SUBSET.json in images/SUBSET/
    places = [path.parent, root / "images" / subset, path.parent / "images", folder, folder / "images"]
    places += [root, root / "images", path.parent.parent]
    limit = os.path.normpath(root.absolute())
    names = list(dict.fromkeys((name, Path(name).name)))
    for candidate in names:
        for place in places:
            there = Path(os.path.normpath(place.absolute() / candidate))
            # `os.path.isfile` is False for names that no file system accepts; `Path.is_file` raises.
            if there.is_relative_to(limit) and os.path.isfile(there):  # noqa: PTH113
                return root / there.relative_to(limit), True
    for candidate in names:
        if (alike := find_alike(candidate, places, root)) is not None:
            return alike, False
    return None, False
