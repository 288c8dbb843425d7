"""Data sets from one annotation format to another: images, parts, labels and masks, overlaps included."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import cv2

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.files import atomic_write
from kemr_lightning.data.annotation import annotation_patch
from kemr_lightning.data.annotation_format import WriteOptions, Writer
from kemr_lightning.data.copies import refuse_copies
from kemr_lightning.data.formats import format_named, written
from kemr_lightning.data.image import DEFAULT_READING, IMAGE_SUFFIXES, IntensityImage, Reading
from kemr_lightning.data.labels import LabelMap, labels_of, map_labels
from kemr_lightning.data.record import Record
from kemr_lightning.data.regions import Regions
from kemr_lightning.data.split import part_named


@dataclass(frozen=True)
class ConvertSettings:
    """Settings of a conversion.

    Attributes:
        to: Name of the format to write.
        shape_type: See `WriteOptions`.
        min_iou: See `WriteOptions`.
        relabel: Whether the labels are renamed.

    Raises:
        SettingError: A value is wrong.
    """

    to: str
    shape_type: str = WriteOptions.shape_type
    min_iou: float = WriteOptions.min_iou
    relabel: bool = False

    def __post_init__(self) -> None:
        format_named(self.to, "to")
        if not isinstance(self.relabel, bool):
            raise SettingError("relabel", self.relabel, "is neither true nor false", "Use one of them")
        self.options()

    def options(self) -> WriteOptions:
        """How masks are written."""
        return WriteOptions(self.shape_type, self.min_iou)


@dataclass(frozen=True)
class Converted:
    """The result of a conversion.

    Attributes:
        folder: The new data root.
        images: Number of images.
        instances: Number of instances.
        lost: Annotations left out because they cover no pixel of their image.
        boxes: Instances with a box and no mask.
        boxes_become_masks: Whether readers of the new files take those boxes for masks.
    """

    folder: Path
    images: int
    instances: int
    lost: int
    boxes: int
    boxes_become_masks: bool


def convert_dataset(
    root: Path,
    data_format: str,
    target: str,
    folder: Path,
    *,
    options: WriteOptions | None = None,
    label_map: LabelMap = None,
    regions: Regions | None = None,
    reading: Reading = DEFAULT_READING,
    progress: Callable[[Sequence[tuple[str, Record]]], Iterable[tuple[str, Record]]] = iter,
) -> Converted:
    """Write a data set in another format. Nothing is overwritten, and the source is left as it is.

    Masks stay the same to the pixel, as pycocotools rasterises them, unless bitmaps become outlines. What the new
    format has no place for is lost: COCO keeps neither scores, descriptions and flags nor points and lines, and Labelme
    keeps no cases.

    Args:
        root: The data folder.
        data_format: Name of its format.
        target: Name of another format, which can be written.
        folder: The new data root; it must be missing or empty. It gets the same parts: ``train/``, ``val/``,
            ``test/``, or images right in it.
        options: How masks are written.
        label_map: See `kemr_lightning.data.labels.LabelMap`; None keeps the labels.
        regions: Which annotations are instances. Shapes with a label to ignore stay shapes with that label.
        reading: How the images are read; files of several channels are copied whole.
        progress: Wraps the list of parts and records, to show the progress of the conversion.

    Raises:
        SettingError: A format is unknown, cannot be written or is that of the data; ``root`` is not a folder; or
            ``label_map`` does not fit.
        UserError: The new folder is not empty, an image is in two parts, or a file of the data set
            is broken.
    """
    chosen = format_named(data_format, "data_format")
    others = " or ".join(name for name in written() if name != data_format)
    if target == data_format:
        raise SettingError("target", target, "is the format that the data have already", f"Choose {others}")
    new_format = format_named(target, "target")
    if target not in written():
        raise SettingError("target", target, "can be read but not written", f"Choose {others}")
    if not root.is_dir():
        raise SettingError("root", root, "is not a folder", "Give the folder that holds the data")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already. Choose another folder: nothing is overwritten")
    source = chosen.source(root)
    # Everything is read before anything is written, so that a broken file does not leave half a data set behind.
    regions = replace(regions or Regions(), ignore_labels=())
    read = {part: regions.apply(source.read(part)) for part in source.parts}
    parts = {part: map_labels(records, label_map) for part, records in read.items()}
    refuse_copies(parts)
    records = [(part, record.read_as(reading)) for part, members in parts.items() for record in members]
    writer = new_format.writer(folder, labels_of([record for _, record in records]), options or WriteOptions())
    if writer is None:
        raise SettingError("target", target, "can be read but not written", f"Choose {others}")
    return _write(records, folder, writer, progress)


def _write(
    records: Sequence[tuple[str, Record]],
    folder: Path,
    writer: Writer,
    progress: Callable[[Sequence[tuple[str, Record]]], Iterable[tuple[str, Record]]],
) -> Converted:
    taken: set[str] = set()
    images = instances = lost = boxes = 0
    for part, record in progress(records):
        loaded = record.load()
        size = (int(loaded.pixels.shape[0]), int(loaded.pixels.shape[1]))
        image = _write_image(folder, _new_stem(part, record, taken), record, loaded)
        kept = [a for a in record.annotations or () if a.box_only or annotation_patch(a, size) is not None]
        writer.add(part, image, kept, size, record.group)
        images, instances = images + 1, instances + len(kept)
        lost += len(record.annotations or ()) - len(kept)
        boxes += sum(annotation.box_only for annotation in kept)
    writer.finish()
    return Converted(folder, images, instances, lost, boxes, writer.boxes_become_masks)


def _new_stem(part: str, record: Record, taken: set[str]) -> str:
    """Path of an image in the new folder without its suffix; no two images share one.

    Upper and lower case count as equal, because some file systems do not distinguish them.

    Args:
        part: The part of the image.
        record: The image.
        taken: The stems of other images, in lower case; the new one is added.
    """
    path = PurePosixPath(record.name)
    if part != "all":
        inner = path.parts[1:] if len(path.parts) > 1 and part_named(path.parts[0]) == part else path.parts
        path = PurePosixPath(part, *inner)
    stem = path.with_suffix("").as_posix()
    if stem.lower() in taken:
        stem = f"{stem}_{path.suffix[1:].lower()}"
    while stem.lower() in taken:
        stem += "_"
    taken.add(stem.lower())
    return stem


def _write_image(folder: Path, stem: str, record: Record, loaded: IntensityImage) -> Path:
    """Copy an image file, or write an embedded image, byte by byte. Images with an EXIF rotation are written upright.

    Args:
        folder: The new data root.
        stem: Path of the new image in it, without suffix.
        record: The image.
        loaded: The decoded image.
    """
    is_file = record.path.suffix.lower() in IMAGE_SUFFIXES
    suffix = record.path.suffix if is_file else ""
    data = None
    if loaded.orientation == 1 and not is_file and record.embedded is not None:
        data = record.embedded()
        suffix = _suffix_of(data)
    if loaded.orientation != 1 or not suffix:
        # Programs disagree on the coordinates in a rotated file; in an upright one they are unambiguous.
        done, coded = cv2.imencode(".png", loaded.pixels)
        assert done
        data, suffix = coded.tobytes(), ".png"
    path = folder / f"{stem}{suffix}"
    with atomic_write(path) as temporary:
        if data is None:
            shutil.copyfile(record.path, temporary)
        else:
            temporary.write_bytes(data)
    return path


_MAGIC = ((b"\x89PNG", ".png"), (b"\xff\xd8", ".jpg"), (b"BM", ".bmp"), (b"II*\0", ".tif"), (b"MM\0*", ".tif"))


def _suffix_of(data: bytes) -> str:
    """The suffix that fits the first bytes of an image file, or nothing if they are of another kind."""
    return next((suffix for magic, suffix in _MAGIC if data.startswith(magic)), "")
