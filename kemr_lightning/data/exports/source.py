"""What all exports have in common: images with annotations become records, part by part."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.annotation_format import Format
from kemr_lightning.data.exports.images import ImageIndex, part_of
from kemr_lightning.data.faults import raise_faults, refuse_twins, warn_of_skipped
from kemr_lightning.data.image import image_size, read_image
from kemr_lightning.data.record import Record
from kemr_lightning.data.split import SPLITS


@dataclass(frozen=True)
class ExportedImage:
    """One image as an export describes it.

    Attributes:
        path: The image file.
        annotations: Its annotations.
        size: ``(H, W)`` as stated, or None.
        part: The part that the export names, or None: the folders decide.
    """

    path: Path
    annotations: tuple[Annotation, ...]
    size: tuple[int, int] | None = None
    part: str | None = None


@dataclass
class Export:
    """The content of an export.

    Attributes:
        images: The images that it annotates.
        faults: What is wrong with it, one message each.
        skipped: How many shapes of each kind are no instances.
    """

    images: list[ExportedImage] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, stated: str, path: Path | None, image: Sequence[Annotation], **more: object) -> None:
        """Add an image, or a fault if its file has not been found.

        Args:
            stated: How the export calls it, for the message.
            path: The file.
            image: Its annotations.
            more: Further attributes of `ExportedImage`.
        """
        if path is None:
            self.faults.append(f"{stated}: its image is not in the data folder, or twice. Put it there")
        else:
            self.images.append(ExportedImage(path, tuple(image), **more))  # type: ignore[arg-type]


class ExportSource:
    """The images of an export, part by part."""

    def __init__(self, root: Path, export: Export) -> None:
        """Divide the images into parts.

        Args:
            root: The data root.
            export: What has been read.

        Raises:
            UserError: Something in the export is wrong, or its images do not fit; the first few faults are named.
        """
        faults = [*export.faults, *(fault for image in export.images if (fault := _mismatch(image)) is not None)]
        raise_faults(faults, root, "faults")
        warn_of_skipped(root, "shapes", export.skipped)
        self._parts: dict[str, list[Record]] = {}
        named = [(image.part or part_of(image.path.relative_to(root).parts[:-1]), image) for image in export.images]
        nowhere = sum(part is None for part, _ in named)
        if 0 < nowhere < len(named):
            lost = next(image.path for part, image in named if part is None)
            raise UserError(
                f"{root}: {nowhere} of {len(named)} images belong to no part (train, val, test), such as "
                f"{lost.relative_to(root)}. Move them into the folder of one, or all into one folder"
            )
        for part, image in sorted(named, key=lambda pair: pair[1].path.relative_to(root).as_posix()):
            self._parts.setdefault(part or "all", []).append(_record(root, image))
        self.parts = [part for part in (*SPLITS, "all") if part in self._parts]
        """``train``, ``val`` and ``test`` as far as they exist, else ``["all"]``."""

    def read(self, part: str) -> list[Record]:
        """The records of one part, sorted by name.

        Raises:
            UserError: An image is listed twice.
        """
        refuse_twins(self._parts[part], "listed twice in the export. Keep one of the entries.")
        return self._parts[part]


def _mismatch(image: ExportedImage) -> str | None:
    try:
        found = image_size(image.path)
        if image.size in (None, found) or read_image(image.path, orient=False).pixels.shape == image.size:
            return None
    except UserError as error:
        return str(error)
    assert image.size is not None
    return (
        f"{image.path} is {found[1]}x{found[0]}, its annotations are for {image.size[1]}x{image.size[0]}. "
        "Use the image that was annotated."
    )


def _record(root: Path, image: ExportedImage) -> Record:
    upright = image.size in (None, image_size(image.path))
    return Record(
        name=image.path.relative_to(root).as_posix(),
        path=image.path,
        load=functools.partial(read_image, image.path, orient=upright),
        annotations=image.annotations,
        stated_size=image.size,
    )


class ExportFormat(Format):
    """A format that is read and not written."""

    def source(self, root: Path) -> ExportSource:
        """See `Format.source`.

        Raises:
            UserError: There is no export of this kind, or it is broken; the first few faults are named.
        """
        return ExportSource(root, self.read(root, ImageIndex(root)))

    @abstractmethod
    def read(self, root: Path, images: ImageIndex) -> Export:
        """Read everything in a folder; faults of single images are collected.

        Args:
            root: The data root.
            images: Its images.

        Raises:
            UserError: There is no export of this kind.
        """


def join_groups(annotations: Sequence[Annotation]) -> list[Annotation]:
    """Annotations with those of one label and group as the parts of one, in the order of their first parts."""
    joined: dict[object, Annotation] = {}
    for number, one in enumerate(annotations):
        key = number if one.group_id is None or one.box_only else (one.label, one.group_id)
        first = joined.get(key)
        if first is None:
            joined[key] = one
        else:
            polygons, patches = (*first.polygons, *one.polygons), (*first.patches, *one.patches)
            joined[key] = Annotation(one.label, polygons, patches, group_id=one.group_id)
    return list(joined.values())
