"""Data sets from Labelme to COCO and back: images, parts, labels and masks, overlaps included."""

from __future__ import annotations

import base64
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2

from kemr_lightning.core import rle
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import whole, write_json
from kemr_lightning.core.instances import Instances
from kemr_lightning.data.annotation import Annotation, annotation_patch
from kemr_lightning.data.coco import CocoSource
from kemr_lightning.data.dataset import LabelMap, Record, map_labels, names_of
from kemr_lightning.data.folder import LabelmeSource
from kemr_lightning.data.image import IMAGE_SUFFIXES, IntensityImage
from kemr_lightning.data.labelme.parse import first_of, read_document
from kemr_lightning.data.labelme.write import mask_shapes, polygon_shapes, write_labelme

log = logging.getLogger(__name__)

COCO_FILE = "annotations.json"

_ALIASES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Converted:
    """What became of a data set.

    Attributes:
        folder: The new data root.
        images: Number of images.
        instances: Number of instances.
        lost: Annotations that cover no pixel of their image, left out.
        boxes: Instances that have a box and no mask.
    """

    folder: Path
    images: int
    instances: int
    lost: int
    boxes: int


def convert_dataset(
    root: Path,
    data_format: str,
    target: str,
    folder: Path,
    *,
    shape_type: str = "polygon",
    min_iou: float = 0.99,
    label_map: LabelMap = None,
    progress: Callable[[Sequence[tuple[str, Record]]], Iterable[tuple[str, Record]]] = iter,
) -> Converted:
    """Write a data set in the other format; nothing is overwritten and the source is left as it is.

    Masks are the same to the pixel, as pycocotools rasterises them, but for bitmaps that become Labelme outlines.
    COCO keeps neither scores, descriptions and flags nor points and lines; Labelme no cases.

    Args:
        root: The data folder.
        data_format: ``"labelme"`` or ``"coco"``.
        target: The other one.
        folder: The new data root, missing or empty. It has the same parts: ``train/``, ``val/``, ``test/``,
            or images right in it. COCO parts have one ``annotations.json`` each.
        shape_type: ``"polygon"``: outlines stay outlines and bitmaps become outlines in Labelme; ``"mask"``: everything
            becomes a bitmap (run lengths in COCO).
        min_iou: Least IoU of such an outline with each part of its bitmap; 1 follows the pixels' edges.
        label_map: See `kemr_lightning.data.dataset.LabelMap`; None keeps the labels.
        progress: Wraps the list of images, to show how far it is.

    Raises:
        UserError: An option is unknown, the folder is not empty, or a file of the data set is broken.
    """
    if {data_format, target} != {"labelme", "coco"}:
        raise UserError(
            f"convert.to={target} from data={data_format} is no conversion. Use labelme and coco, either way."
        )
    if shape_type not in ("polygon", "mask"):
        raise UserError(f"convert.shape_type={shape_type!r} is unknown. Use polygon or mask.")
    if not root.is_dir():
        raise UserError(f"data.root={root} is no folder. Give the folder that holds the data.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already. Choose another hydra.run.dir: nothing is overwritten.")
    source = (CocoSource if data_format == "coco" else LabelmeSource)(root)
    # Everything is read before anything is written, so that a broken file leaves no half of a data set.
    records = [(part, record) for part in source.parts for record in map_labels(source.read(part), label_map)]
    names = names_of([record for _, record in records])
    coco = _CocoFiles(names, shape_type)
    taken: set[str] = set()
    images = instances = lost = boxes = 0
    for part, record in progress(records):
        loaded = record.load()
        size = (int(loaded.pixels.shape[0]), int(loaded.pixels.shape[1]))
        image = _write_image(folder, _name(part, record, taken), record, loaded)
        kept = [a for a in record.annotations or () if a.box_only or annotation_patch(a, size) is not None]
        if target == "coco":
            coco.add(_part_folder(folder, part), image, kept, size, record.group)
        else:
            shapes = _labelme_shapes(kept, size, shape_type, min_iou)
            write_labelme(image.with_suffix(".json"), image, Instances.empty(size), other_shapes=shapes)
        images, instances = images + 1, instances + len(kept)
        lost += len(record.annotations or ()) - len(kept)
        boxes += sum(annotation.box_only for annotation in kept)
    coco.write()
    return Converted(folder, images, instances, lost, boxes)


def _name(part: str, record: Record, taken: set[str]) -> str:
    """Path of the new image in the new folder, without its ending; no two images share one.

    File systems may not tell upper from lower case.
    """
    path = PurePosixPath(record.name)
    if part != "all":
        inner = path.parts[1:] if len(path.parts) > 1 and _ALIASES.get(path.parts[0]) == part else path.parts
        path = PurePosixPath(part, *inner)
    stem = path.with_suffix("").as_posix()
    if stem.lower() in taken:
        stem = f"{stem}_{path.suffix[1:].lower()}"
    while stem.lower() in taken:
        stem += "_"
    taken.add(stem.lower())
    return stem


def _write_image(folder: Path, stem: str, record: Record, loaded: IntensityImage) -> Path:
    """Copy an image, or what a Labelme file embeds, byte by byte; images with an EXIF rotation are written upright."""
    is_file = record.path.suffix.lower() in IMAGE_SUFFIXES
    suffix = record.path.suffix if is_file else ""
    data = None
    if loaded.orientation == 1 and not is_file:
        document = read_document(record.path)
        data = base64.b64decode(first_of(document, "imageData", "image_data"))
        suffix = _suffix_of(data)
    if loaded.orientation != 1 or not suffix:
        # Programs disagree on what coordinates in a turned file mean; in an upright one there is but one meaning.
        done, coded = cv2.imencode(".png", loaded.pixels)
        assert done
        data, suffix = coded.tobytes(), ".png"
    path = folder / f"{stem}{suffix}"
    with whole(path) as temporary:
        if data is None:
            shutil.copyfile(record.path, temporary)
        else:
            temporary.write_bytes(data)
    return path


_MAGIC = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"BM", ".bmp"), (b"II*\0", ".tif"), (b"MM\0*", ".tif"))


def _suffix_of(data: bytes) -> str:
    """The ending that goes with an image's first bytes, or nothing if they are of another kind."""
    return next((suffix for magic, suffix in _MAGIC if data.startswith(magic)), "")


class _CocoFiles:
    """Collects the annotations of each part, to be written at the end."""

    def __init__(self, names: Sequence[str], shape_type: str) -> None:
        self.numbers = {name: number for number, name in enumerate(names, start=1)}
        self.shape_type = shape_type
        self.documents: dict[Path, dict[str, list[dict[str, Any]]]] = {}
        self.images = 0

    def add(
        self,
        folder: Path,
        image: Path,
        annotations: Sequence[Annotation],
        size: tuple[int, int],
        case: str | None,
    ) -> None:
        """Take the annotations of one image of the part in a folder."""
        document = self.documents.setdefault(folder, {"images": [], "annotations": []})
        self.images += 1
        name = image.relative_to(folder).as_posix()
        entry = {"id": self.images, "file_name": name, "width": size[1], "height": size[0]}
        document["images"].append(entry | ({} if case is None else {"case": case}))
        for annotation in annotations:
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": self.images,
                    "category_id": self.numbers[annotation.label],
                    **_coco_shape(annotation, size, self.shape_type),
                    "iscrowd": 0,
                }
            )

    def write(self) -> None:
        """Write a file for each part."""
        categories = [{"id": number, "name": name} for name, number in self.numbers.items()]
        for folder, document in self.documents.items():
            write_json(folder / COCO_FILE, document | {"categories": categories})


def _part_folder(folder: Path, part: str) -> Path:
    return folder if part == "all" else folder / part


def _coco_shape(annotation: Annotation, size: tuple[int, int], shape_type: str) -> dict[str, Any]:
    if annotation.box_only:
        x0, y0, x1, y1 = annotation.bounds()
        return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
    patch = annotation_patch(annotation, size)
    assert patch is not None
    x0, y0, x1, y1 = patch.window
    shape: dict[str, Any] = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": patch.area()}
    if annotation.patches or shape_type == "mask":
        coded = rle.encode(patch, size)
        counts = coded["counts"]
        text = counts if isinstance(counts, str) else counts.decode("ascii")
        return shape | {"segmentation": {"size": list(size), "counts": text}}
    return shape | {"segmentation": [polygon.ravel().tolist() for polygon in annotation.polygons]}


def _labelme_shapes(
    annotations: Sequence[Annotation], size: tuple[int, int], shape_type: str, min_iou: float
) -> list[dict[str, Any]]:
    """The shapes of one image; those of one instance share a group."""
    shapes: list[dict[str, Any]] = []
    for number, annotation in enumerate(annotations, start=1):
        parts = list(_parts(annotation, size, shape_type, min_iou))
        group = number if len(parts) > 1 else None
        shapes += [{**part, "label": annotation.label, "group_id": group} for part in parts]
    return shapes


def _parts(annotation: Annotation, size: tuple[int, int], shape_type: str, min_iou: float) -> Iterator[dict[str, Any]]:
    if annotation.box_only:
        x0, y0, x1, y1 = annotation.bounds()
        yield _outline([[x0, y0], [x1, y1]], "rectangle")
        return
    if shape_type == "mask":
        patch = annotation_patch(annotation, size)
        assert patch is not None
        yield from mask_shapes(patch)
        return
    for polygon in annotation.polygons:
        yield _outline(polygon.tolist(), "polygon")
    for patch in annotation.patches:
        yield from polygon_shapes(patch, min_iou)


def _outline(points: list[list[float]], shape_type: str) -> dict[str, Any]:
    shape: dict[str, Any] = {"label": "", "points": points, "group_id": None, "description": ""}
    return {**shape, "shape_type": shape_type, "flags": {}, "mask": None}
