"""Labelme files with their images: the image is found, decoded and compared with the file, the masks are drawn."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances
from kemr_lightning.data.annotation import Annotation, to_instances
from kemr_lightning.data.image import (
    DEFAULT_READING,
    IMAGE_SUFFIXES,
    IntensityImage,
    Reading,
    image_size,
    read_image_bytes,
)
from kemr_lightning.data.labelme.parse import LabelmeFile, first_of, parse_document, read_document
from kemr_lightning.data.names import AmbiguousNameError, find_alike
from kemr_lightning.data.record import MissingImageError

log = logging.getLogger(__name__)


@dataclass
class LabelmeInstances(Instances):
    """Instances that keep their class names and their file, so that they can be written back.

    Attributes:
        label_names: Names of labels 1, 2, …
        annotations: One per instance.
        file: The file they came from, with its flags, its points and lines and everything else in it.
    """

    label_names: tuple[str, ...] = ()
    annotations: tuple[Annotation, ...] = ()
    file: LabelmeFile | None = None

    def __getitem__(self, index: torch.Tensor | Sequence[int] | slice) -> LabelmeInstances:
        """Select instances as `Instances` does."""
        part = super().__getitem__(index)
        where = self.positions(index).tolist()
        chosen = tuple(self.annotations[position] for position in where)
        return LabelmeInstances(
            *(part.image_size, part.boxes, part.scores, part.labels, part.patches, part.disagreement),
            label_names=self.label_names,
            annotations=chosen,
            file=self.file,
        )


@dataclass(frozen=True)
class LabelmeImage:
    """One Labelme file with its image; unpacks as ``image, instances = read_labelme(path)``.

    Attributes:
        image: ``(H, W)`` uint8 intensity, or None if there is neither an image file nor an embedded image.
        instances: The annotations rasterised at the image's size. Labels number the file's class names, sorted.
        file: Everything else in the file.
        notices: What was unusual, one sentence each.
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
        root: Images may not lie outside this folder; None stands for the folder of the JSON file.

    Returns:
        Image and instances. If there is no image but its size is stated, ``image`` is None.

    Raises:
        UserError: The file is missing, broken or does not fit its image, or there is neither an image nor a size.
    """
    file, document = parse_document(Path(json_path))
    notices: list[str] = []
    image: IntensityImage | None = None
    try:
        image = _load_image(file, document, Path(root) if root is not None else None, notices)
    except MissingImageError as error:
        if file.image_size is None:
            raise
        notices.append(str(error))
    size = (int(image.pixels.shape[0]), int(image.pixels.shape[1])) if image is not None else file.image_size
    assert size is not None
    names = tuple(sorted({annotation.label for annotation in file.annotations}))
    plain, positions = to_instances(file.annotations, {name: i for i, name in enumerate(names, start=1)}, size)
    lost = sorted(set(range(len(file.annotations))) - set(positions))
    if lost:
        names_lost = ", ".join(sorted({file.annotations[position].label for position in lost})[:3])
        notices.append(f"{file.path}: {len(lost)} of {len(file.annotations)} instances cover no pixel ({names_lost}).")
    for notice in notices:
        log.warning(notice)
    chosen = tuple(file.annotations[position] for position in positions)
    scores = torch.tensor([1.0 if a.score is None else a.score for a in chosen], dtype=torch.float32)
    instances = LabelmeInstances(
        *(size, plain.boxes, scores, plain.labels, plain.patches), label_names=names, annotations=chosen, file=file
    )
    return LabelmeImage(image.pixels if image is not None else None, instances, file, tuple(notices))


def load_image(file: LabelmeFile, root: Path | None = None, reading: Reading = DEFAULT_READING) -> IntensityImage:
    """Decode the image of a parsed file: the file at ``imagePath``, or else the embedded one.

    Args:
        file: As `parse_labelme` returns it.
        root: As in `read_labelme`.
        reading: How the image is read.

    Raises:
        MissingImageError: There is no image.
        UserError: The image is damaged or has another size than stated.
    """
    document = read_document(file.path) if file.embedded and find_image(file, root)[0] is None else {}
    notices: list[str] = []
    image = _load_image(file, document, root, notices, reading)
    for notice in notices:
        log.debug(notice)
    return image


def embedded_image(path: Path, document: Mapping[str, Any] | None = None) -> bytes:
    """The image file embedded in a Labelme file.

    Args:
        path: The JSON file.
        document: Its content, if it has been read already.

    Raises:
        UserError: The file is broken or contains no image.
    """
    document = read_document(path) if document is None else document
    try:
        return base64.b64decode(first_of(document, "imageData", "image_data"))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: imageData is not base64. Save the file again in Labelme.") from error


def check_image(file: LabelmeFile, root: Path | None = None) -> str | None:
    """Compare the size in an image's header with the size that its annotation file states.

    Args:
        file: As `parse_labelme` returns it.
        root: As in `read_labelme`.

    Returns:
        A notice if the image is not where the file says, else None.

    Raises:
        MissingImageError: There is no image.
        UserError: The image cannot be read, or has another size than stated.
    """
    found, notice = find_image(file, root)
    if found is None and not file.embedded:
        raise _missing(file, root)
    if found is not None and file.image_size not in (None, image_size(found)):
        load_image(file, root)  # Raises, unless only the orientation differs.
    return notice


def find_image(file: LabelmeFile, root: Path | None = None) -> tuple[Path | None, str | None]:
    """Look for the image file of a parsed file.

    Args:
        file: As `parse_labelme` returns it.
        root: As in `read_labelme`.

    Returns:
        The image's path or None, and a notice if it is not where the file says.

    Raises:
        AmbiguousNameError: The image is only there under other spellings of its name, and under more than one.
    """
    folder = file.path.parent
    root = folder if root is None else root
    stated = (file.image_path or "").replace("\\", "/")
    if stated:
        limit = os.path.normpath(root.absolute())
        there = Path(os.path.normpath(folder.absolute() / stated))
        inside = there.is_relative_to(limit)
        absolute = stated.startswith("/") or stated[1:2] == ":"
        # `os.path.isfile` is False for names that no file system accepts; `Path.is_file` raises.
        if inside and os.path.isfile(there):  # noqa: PTH113
            return root / there.relative_to(limit), None
        beside = folder / Path(stated).name
        if Path(stated).name and os.path.isfile(beside):  # noqa: PTH113
            why = "is elsewhere" if not inside or absolute else "is missing"
            return beside, f"{file.path}: imagePath {file.image_path!r} {why}; using {beside.name} beside the JSON."
        try:
            alike = find_alike(stated, [folder], root) or find_alike(Path(stated).name, [folder], root)
        except AmbiguousNameError as error:
            if not file.embedded:
                raise AmbiguousNameError(f"{file.path}: imagePath {error}") from error
            alike = None
        if alike is not None:
            taken = alike.relative_to(root).as_posix()
            return alike, f"{file.path}: imagePath {file.image_path!r} is taken to be {taken}."
    if file.embedded:
        return None, None
    for suffix in IMAGE_SUFFIXES:
        for same in (file.path.with_suffix(suffix), file.path.with_suffix(suffix.upper())):
            if same.is_file():
                return same, f"{file.path}: image {file.image_path!r} is missing; using {same.name} of the same name."
    return None, None


def _load_image(
    file: LabelmeFile,
    document: Mapping[str, Any],
    root: Path | None,
    notices: list[str],
    reading: Reading = DEFAULT_READING,
) -> IntensityImage:
    found, notice = find_image(file, root)
    if notice is not None:
        notices.append(notice)
    if found is not None:
        data, name, orient = found.read_bytes(), str(found), True
    elif file.embedded:
        name, orient = f"the image in {file.path}", False
        data = embedded_image(file.path, document)
    else:
        raise _missing(file, root)
    image = read_image_bytes(data, name, orient=orient, reading=reading)
    size = (int(image.pixels.shape[0]), int(image.pixels.shape[1]))
    if file.image_size is None or size == file.image_size:
        return image
    if image.orientation != 1:
        other = read_image_bytes(data, name, orient=not orient, reading=reading)
        if other.pixels.shape == file.image_size:
            notices.append(f"{name}: EXIF orientation {'ignored' if orient else 'applied'} to match the stated size.")
            return other
    height, width = file.image_size
    raise UserError(
        f"{file.path}: the file says {width}x{height} but {Path(name).name} is {size[1]}x{size[0]}. "
        "Use the image that was annotated, or correct imageWidth and imageHeight."
    )


def _missing(file: LabelmeFile, root: Path | None) -> MissingImageError:
    stated = (file.image_path or "").replace("\\", "/")
    there = Path(os.path.normpath(file.path.parent.absolute() / stated))
    if stated and os.path.isfile(there):  # noqa: PTH113
        limit = Path(os.path.normpath((root or file.path.parent).absolute()))
        common = os.path.commonpath([there, limit])
        return MissingImageError(
            f"{file.path}: image {file.image_path!r} lies outside {limit}, which is not left. "
            f"Put the image beside the JSON, or give a folder that holds both ({common})."
        )
    return MissingImageError(
        f"{file.path}: image {file.image_path!r} is not there and none is embedded. Put the image beside the JSON."
    )
