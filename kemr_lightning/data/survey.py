"""Everything annotated in a folder, together with what is wrong with it: nothing stops at a broken file."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kemr_lightning.data.folder import walk
from kemr_lightning.data.image import IMAGE_SUFFIXES, IntensityImage, read_image
from kemr_lightning.data.part_folders import part_folders, unused_folders
from kemr_lightning.data.record import Record
from kemr_lightning.data.split import split_name

Box = tuple[float, float, float, float]
"""``(x0, y0, x1, y1)`` in pixels."""


FaultKind = Literal[
    "broken_file",
    "broken_shape",
    "missing_image",
    "broken_image",
    "size_mismatch",
    "two_files",
    "degenerate",
    "skipped",
    "outside",
    "empty",
    "elsewhere",
    "other_json",
    "unannotated",
    "unused",
    "parts",
    "unused_part",
]
"""Kinds of faults.

An annotation file cannot be read (``broken_file``), or one of its annotations cannot be understood, so that training
refuses the file (``broken_shape``). An image is missing, cannot be decoded, or has another size than stated
(``missing_image``, ``broken_image``, ``size_mismatch``). An image is annotated twice (``two_files``). An annotation
encloses nothing (``degenerate``), lies beyond the image (``outside``), or is not an instance for another reason
(``skipped``). An annotated image has no instance (``empty``), or is not where its file says (``elsewhere``). A file is
of another kind (``other_json``), an image without annotations (``unannotated``), or outside the parts (``unused``). It
is not clear which folders are the parts (``parts``), or a folder looks like one and is not used (``unused_part``).
"""


@dataclass(frozen=True)
class Fault:
    """Something wrong or unusual about a file.

    Attributes:
        kind: See `FaultKind`.
        file: The image or annotation file, relative to the data root; empty for the whole folder.
        message: What exactly is wrong.
        boxes: Where in the image.
        others: Further files concerned, such as two files that annotate one image.
    """

    kind: FaultKind
    file: str
    message: str
    boxes: tuple[Box, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class SurveyedImage:
    """One image of a survey.

    Attributes:
        record: The image, with the annotations that could be understood. Its ``load`` decodes as training does and
            raises if image and annotations do not fit.
        part: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.
        decode: Decodes the image without comparing it with its annotations; None if there is no image.
    """

    record: Record
    part: str
    decode: Callable[[], IntensityImage] | None


@dataclass
class Survey:
    """What an annotation format finds in a folder.

    Attributes:
        images: The annotated images.
        faults: What is wrong.
        parts: ``train``, ``val`` and ``test`` as far as they exist, else ``["all"]``.
        bare: The unannotated images.
    """

    images: list[SurveyedImage] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    parts: list[str] = field(default_factory=lambda: ["all"])
    bare: list[SurveyedImage] = field(default_factory=list)


def images_besides(root: Path, used: Collection[Path]) -> list[Path]:
    """The image files of a folder that are not among the used ones."""
    return [path for path in walk(root, IMAGE_SUFFIXES) if path not in used]


def bare_image(root: Path, path: Path, parts: Sequence[str]) -> SurveyedImage:
    """An unannotated image file.

    Args:
        root: The data root.
        path: The image.
        parts: The parts of the data set.
    """
    name = path.relative_to(root).as_posix()
    load = functools.partial(read_image, path)
    return SurveyedImage(Record(name, path, load), split_name(name, parts)[0], load)


def unused_faults(root: Path, parts: Sequence[str]) -> list[Fault]:
    """The folders that look like parts and are none.

    Args:
        root: The data root.
        parts: The parts of the data set.
    """
    used = [folder for part, folder in part_folders(root).items() if part in parts]
    return [Fault("unused_part", f"{name}/", "it looks like a part") for name in unused_folders(root, used)]


def without_path(message: str, path: Path) -> str:
    """A message without the path at its beginning, for a fault that names the file already."""
    for prefix in (f"{path}: ", f"{path} "):
        message = message.removeprefix(prefix)
    return message
