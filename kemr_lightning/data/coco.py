"""COCO folders: images and one JSON for each part; polygons, run lengths or boxes only. Read and written.

The JSON may lie beside the images, above them (`boxes.json`, `images/`), in `train/`, `val/` and `test/`, or in
`annotations/` with the part in its name (`instances_train.json`). A part's name may end in a year, as in
`instances_train2017.json` and `train2017/`.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from kemr_lightning.core import rle
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import write_text
from kemr_lightning.core.instances import Sample
from kemr_lightning.data.annotation import FARTHEST, Annotation, polygon_area
from kemr_lightning.data.dataset import Record
from kemr_lightning.data.folder import refuse_twins
from kemr_lightning.data.image import image_size, read_image
from kemr_lightning.data.split import SPLITS

log = logging.getLogger(__name__)

SHOWN = 3
"""How many faults a message names."""

_ALIASES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}


class CocoSource:
    """The COCO files of a data folder, part by part."""

    def __init__(self, root: Path) -> None:
        """Find the JSONs and the parts they are for.

        Raises:
            UserError: There is none.
        """
        self.root = root
        self._files: dict[str, tuple[list[Path], Path]] = {}
        folders = {part: _folders(root, part) for part in SPLITS}
        for part in SPLITS:
            for folder in folders[part]:
                if part not in self._files and (files := _coco_files(folder)):
                    self._files[part] = (files, folder)
        if not self._files:
            files = _coco_files(root) + (_coco_files(root / "annotations") if (root / "annotations").is_dir() else [])
            for part in SPLITS:
                if chosen := [path for path in files if _part_of(path.stem) == part]:
                    self._files[part] = (chosen, (folders[part] or [root / part])[0])
            if files and not self._files:
                if len(files) > 1:
                    names = ", ".join(path.name for path in files)
                    log.warning("%s: none of %s names a part (train, val, test): all are one set", root, names)
                self._files["all"] = (files, root)
        if not self._files:
            raise UserError(f"data.root={root} has no COCO JSON (with images and annotations). Correct data.root.")
        self.parts = list(self._files)
        """``train``, ``val`` and ``test`` as far as there are files for them, else ``["all"]``."""

    def read(self, part: str) -> list[Record]:
        """The records of one part.

        Raises:
            UserError: A file is broken, or images are missing.
        """
        files, folder = self._files[part]
        return _settle_boxes(_records(files, self.root, folder), folder)

    def readable(self, part: str) -> tuple[list[Record], list[str]]:
        """The records of one part as far as they can be read, and what is wrong with the others, one message each."""
        files, folder = self._files[part]
        records: list[Record] = []
        faults: list[str] = []
        for path in files:
            try:
                contents = parse_coco(path, self.root, folder)
            except UserError as error:
                faults.append(str(error))
                continue
            records += contents.records
            faults += contents.faults
        return _settle_boxes(records, folder), faults

    def places(self, part: str) -> tuple[list[Path], Path]:
        """The JSONs of one part and the folder of its images."""
        return self._files[part]


def read_coco(json_path: str | Path, root: str | Path | None = None) -> list[Record]:
    """The images and annotations of one COCO file.

    Args:
        json_path: The JSON.
        root: The folder that images are looked for in and may not leave; the JSON's own if None.

    Raises:
        UserError: The file is missing or broken, or an image is missing or of another size.
    """
    path = Path(json_path)
    folder = path.parent if root is None else Path(root)
    return _records([path], folder, path.parent)


def write_coco(json_path: str | Path, samples: Iterable[Sample], label_names: Sequence[str]) -> Path:
    """Write annotated samples as a COCO file; masks as compressed run lengths, boxes tight.

    Args:
        json_path: The file to write; an existing one is replaced.
        samples: Taken one by one.
        label_names: Name of label 1, 2, …; the category ids are the labels.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        height, width = sample.image_size
        images.append({"id": sample.image_id, "file_name": sample.name, "width": width, "height": height})
        instances = sample.instances
        for index in range(0 if instances is None else len(instances)):
            assert instances is not None
            x0, y0, x1, y1 = instances.boxes[index].tolist()
            item: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": sample.image_id,
                "category_id": int(instances.labels[index]),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
            if instances.patches is not None:
                patch = instances.patches[index]
                coded = rle.encode(patch, sample.image_size)
                counts = coded["counts"]
                text = counts if isinstance(counts, str) else counts.decode("ascii")
                item |= {"area": patch.area(), "segmentation": {"size": [height, width], "counts": text}}
            annotations.append(item)
    categories = [{"id": number, "name": name} for number, name in enumerate(label_names, start=1)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    write_text(Path(json_path), json.dumps(document) + "\n")
    return Path(json_path)


def _coco_files(folder: Path) -> list[Path]:
    """The COCO JSONs right in a folder. A JSON that cannot be read counts, so that it is reported."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            found.append(path)
            continue
        if isinstance(document, dict) and "images" in document and "annotations" in document:
            found.append(path)
    return found


def _folders(root: Path, part: str) -> list[Path]:
    """The folders of a part: with its name alone (``train``, ``valid``), then with a year behind it (``train2017``)."""
    if not root.is_dir():
        return []
    found = [folder for folder in sorted(root.iterdir()) if folder.name.rstrip("0123456789") in _ALIASES[part]]
    return sorted((folder for folder in found if folder.is_dir()), key=lambda folder: folder.name not in _ALIASES[part])


def _part_of(name: str) -> str | None:
    """The part that one of a file name's words says, a year behind it left out."""
    words = [word.rstrip("0123456789") for word in re.split(r"[-_. ]", name.lower())]
    return next((part for part in SPLITS if any(alias in words for alias in _ALIASES[part])), None)


def _records(files: Sequence[Path], root: Path, folder: Path) -> list[Record]:
    records: list[Record] = []
    faults: list[str] = []
    skipped: Counter[str] = Counter()
    for path in files:
        contents = parse_coco(path, root, folder)
        records += contents.records
        faults += contents.faults
        skipped.update(contents.skipped)
    if faults:
        more = f" ({len(faults) - SHOWN} more faults)" if len(faults) > SHOWN else ""
        raise UserError(" | ".join(faults[:SHOWN]) + more)
    if skipped:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(skipped.items()))
        log.warning("%s: annotations that are no instances, left out: %s", folder, counts)
    records.sort(key=lambda record: record.name)
    refuse_twins(records, "listed twice in the COCO files. Keep one of the entries.")
    return records


@dataclass(frozen=True)
class CocoContents:
    """What one COCO file says, faults included.

    Attributes:
        records: Its images, as far as they are there, in the file's order.
        faults: What is wrong with images and annotations, one message each.
        skipped: How often each kind of annotation did not become an instance: ``"crowd"``, ``"degenerate"``.
    """

    records: list[Record]
    faults: list[str]
    skipped: Mapping[str, int]


def parse_coco(path: Path, root: Path, folder: Path) -> CocoContents:
    """Understand a COCO file and go on over faults in it.

    Args:
        path: The JSON.
        root: The data root: names are relative to it and images may not lie outside it.
        folder: Where the part's images are looked for besides the JSON's folder and the root.

    Raises:
        UserError: The file cannot be read at all, or ids of its images or categories or a stated size make no sense.
    """
    records: list[Record] = []
    faults: list[str] = []
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
            faults.append(str(error))
            continue
        if isinstance(parsed, str):
            skipped[parsed] += 1
        else:
            by_image[raw["image_id"]].append(parsed)
    for image in document["images"]:
        try:
            records.append(_record(path, image, sizes[image["id"]], by_image[image["id"]], root, folder))
        except UserError as error:
            faults.append(str(error))
    return CocoContents(records, faults, skipped)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror or error}. Check the path.") from error
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path} is not valid JSON ({reason}). Export it again.") from error
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
    """``(H, W)`` that the file says an image has, or None."""
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
    """One annotation, or why it is none."""
    where = f"{path}: annotation {raw.get('id')}"
    if not isinstance(raw.get("image_id"), int | float | str) or raw["image_id"] not in sizes:
        raise UserError(f"{where} is of image {raw.get('image_id')!r}, which is not listed. Export it again.")
    if not isinstance(raw.get("category_id"), int | float | str) or raw["category_id"] not in names:
        raise UserError(f"{where} has category {raw.get('category_id')!r}, which is not listed. Export it again.")
    if raw.get("iscrowd"):
        return "crowd"
    label = names[raw["category_id"]]
    shape = raw.get("segmentation")
    try:
        if isinstance(shape, dict):
            height, width = (int(side) for side in shape["size"])
            stated = sizes[raw["image_id"]]
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


def _record(
    path: Path,
    image: Mapping[str, Any],
    stated: tuple[int, int] | None,
    annotations: Sequence[Annotation],
    root: Path,
    folder: Path,
) -> Record:
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise UserError(f"{path}: image {image.get('id')!r} has no file_name. Export it again.")
    found = _find(name.replace("\\", "/"), path, root, folder)
    if found is None:
        raise UserError(f"{path}: image {name!r} is not there. Put it beside the JSON or into images/.")
    orient = True
    if stated is not None and stated != (size := image_size(found)):
        if read_image(found, orient=False).pixels.shape != stated:
            raise UserError(
                f"{path}: image {name!r} is {size[1]}x{size[0]}, the file says {stated[1]}x{stated[0]}. "
                "Use the image that was annotated."
            )
        orient = False
    case = image.get("case")
    return Record(
        name=found.relative_to(root).as_posix(),
        path=found,
        load=functools.partial(read_image, found, orient=orient),
        annotations=tuple(annotations),
        group=None if case is None else str(case),
        stated_size=stated,
    )


def _find(name: str, path: Path, root: Path, folder: Path) -> Path | None:
    """The image of a name: as written, then by its last part, in the places where COCO folders keep images."""
    places = [path.parent, path.parent / "images", folder, folder / "images", root, root / "images", path.parent.parent]
    limit = os.path.normpath(root.absolute())
    for candidate in (name, Path(name).name):
        for place in places:
            there = Path(os.path.normpath(place.absolute() / candidate))
            # `os.path.isfile` is False for names that no file system takes, where `Path.is_file` raises.
            if there.is_relative_to(limit) and os.path.isfile(there):  # noqa: PTH113
                return root / there.relative_to(limit)
    return None


def _settle_boxes(records: list[Record], folder: Path) -> list[Record]:
    """Where some annotations have masks, those with a box only are left out: a box is no mask."""
    everything = [annotation for record in records for annotation in record.annotations or ()]
    boxes = sum(annotation.box_only for annotation in everything)
    if boxes in (0, len(everything)):
        return records
    log.warning("%s: %d of %d annotations have a box and no mask, left out", folder, boxes, len(everything))
    return [replace(r, annotations=tuple(a for a in r.annotations or () if not a.box_only)) for r in records]
