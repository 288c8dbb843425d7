"""What there is to predict in a folder: images, pages of images, embedded images, and their annotations.

Broken files do not stop the search. Hardly anything is decoded here: an image that cannot be read is reported when it
is predicted.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.instances import Instances
from kemr_lightning.core.run_directory import is_run_directory
from kemr_lightning.data.annotation import EVERY_CLASS, Annotation, to_instances, turn_annotation
from kemr_lightning.data.folder import folders_below, walk
from kemr_lightning.data.formats import DEFAULT, format_named
from kemr_lightning.data.image import (
    DEFAULT_READING,
    IMAGE_SUFFIXES,
    IntensityImage,
    Reading,
    read_image,
    shows_everywhere,
    with_reading,
)
from kemr_lightning.data.labels import LabelMap, new_names
from kemr_lightning.data.record import Record
from kemr_lightning.data.regions import Regions
from kemr_lightning.data.tiff import count_images

logger = logging.getLogger(__name__)

_TIFF = (".tif", ".tiff")
_OTHER_IMAGES = (".gif", ".webp", ".heic", ".jp2", ".dcm", ".czi", ".nd2", ".lif", ".svs", ".psd")
_PAGE = re.compile(r"(?P<stem>.+)_p(?P<number>\d{1,9})(_tiff?)?\.png$")


@dataclass(frozen=True)
class Input:
    """One image to predict.

    Attributes:
        name: The file's path relative to the data root.
        stem: Path of its outputs without suffix, relative to their folder; no two inputs share one.
        path: The image file, or the annotation file that embeds the image.
        load: Decodes the image.
        page: Page of a file with several pages, from 0, else None.
        annotations: None if the image is not annotated.
        annotated_by: The file with the annotations, if it is about this image alone.
        annotated_size: ``(H, W)`` of the image according to its annotations, or None.
    """

    name: str
    stem: str
    path: Path
    load: Callable[..., IntensityImage]
    page: int | None = None
    annotations: tuple[Annotation, ...] | None = None
    annotated_by: Path | None = None
    annotated_size: tuple[int, int] | None = None

    @property
    def source(self) -> tuple[str, int | None]:
        """What identifies this input whatever its stem: the name, and the page counted from 1 if there are several."""
        return self.name, None if self.page is None else self.page + 1

    @property
    def is_file(self) -> bool:
        """Whether the file holds this image and nothing else."""
        return self.page is None and self.path.suffix.lower() in IMAGE_SUFFIXES

    @functools.cached_property
    def is_copied(self) -> bool:
        """Whether the outputs contain the file itself, because Labelme can show it, and not a PNG of its pixels."""
        return self.is_file and shows_everywhere(self.path)

    @property
    def image_name(self) -> str:
        """Path of the image among the outputs: with the file's own suffix if it is copied, else with ``.png``."""
        return self.stem + (self.path.suffix if self.is_copied else ".png")

    def version(self) -> list[list[str | int]]:
        """Size and time of the files that this input depends on; they differ once a file has changed."""
        files = [self.path] if self.annotated_by in (None, self.path) else [self.path, self.annotated_by]
        return [[str(stat.st_size), str(stat.st_mtime_ns)] for stat in (file.stat() for file in files if file)]

    def truth(
        self,
        label_names: Sequence[str],
        label_map: LabelMap,
        size: tuple[int, int],
        orientation: int = 1,
        regions: Regions | None = None,
    ) -> Instances | None:
        """The annotations rasterised at the image's size.

        Args:
            label_names: A model's names of labels 1, 2, ... If there is one, all annotations that ``label_map`` does
                not drop get it; if there are several, annotations of other names are left out.
            label_map: New names by old ones, if it is a mapping; labels that it drops or does not name are left out.
            size: ``(H, W)`` of the upright image.
            orientation: The EXIF orientation in the image's file; annotations may refer to the pixels as stored.
            regions: Which annotations are instances; None for the defaults.

        Returns:
            None without annotations, or if they are for an image of another size.
        """
        if self.annotations is None:
            return None
        annotations: Sequence[Annotation] = self.annotations
        if self.annotated_size not in (None, size):
            if orientation < 5 or self.annotated_size != size[::-1]:
                where = "" if self.annotated_by is None else f" in {self.annotated_by}"
                logger.warning("%s: the annotations%s are for another image size and are not used", self.name, where)
                return None
            annotations = [turn_annotation(annotation, orientation, size) for annotation in annotations]
        annotations = (regions or Regions()).meant(annotations, label_map)
        if isinstance(label_map, Mapping):
            names = new_names((annotation.label for annotation in annotations), label_map)
            annotations = _renamed(annotations, names)
        if len(label_names) == 1:
            annotations = _renamed(annotations, {annotation.label: label_names[0] for annotation in annotations})
        ids = {name: number for number, name in enumerate(label_names, start=1)}
        known = [annotation for annotation in annotations if annotation.label in ids or annotation.crowd]
        instances, positions = to_instances(known, ids, size)
        if len(positions) < len(known):
            lost = len(known) - len(positions)
            logger.warning(
                "%s: %d of %d annotations cover no pixel of the image, left out", self.name, lost, len(known)
            )
        return instances


def _renamed(annotations: Sequence[Annotation], names: Mapping[str, str | None]) -> list[Annotation]:
    """The annotations that get a name, and the crowds of all classes."""
    renamed = [(one, EVERY_CLASS if one.label == EVERY_CLASS else names.get(one.label)) for one in annotations]
    return [replace(annotation, label=name) for annotation, name in renamed if name is not None]


def _nothing_written(_: Path) -> bool:
    return False


def find_inputs(
    root: Path,
    data_format: str = DEFAULT,
    without: Sequence[Path] = (),
    written: Callable[[Path], bool] = _nothing_written,
    stems: Mapping[tuple[str, int | None], str] | None = None,
    reading: Reading = DEFAULT_READING,
) -> list[Input]:
    """Everything to predict in a folder and its subfolders, sorted by name. Run directories in it are passed over.

    Args:
        root: The folder.
        data_format: Name of the format of its annotations, if there are any.
        without: Folders in it that are passed over (a run's own outputs).
        written: Whether the run that is resumed has written a file and nobody has changed it since: such a file is
            neither an image nor an annotation.
        stems: Stems that inputs had before, by `Input.source`; they keep them.
        reading: How the images are read.

    Raises:
        SettingError: The format is unknown, or the folder is missing or has no images.
    """
    chosen = format_named(data_format)
    if not root.is_dir():
        raise SettingError("root", root, "is not a folder", "Give the folder that holds the images")
    apart = [folder.resolve() for folder in without]
    apart += [folder.resolve() for folder in _runs(root, apart)]
    files = [path for path in walk(root, IMAGE_SUFFIXES) if not _within(path, apart) and not written(path)]
    found = _annotated(_pages(root, files), chosen.inputs(root, lambda path: _within(path, apart), written))
    _tell_left_out(root, apart)
    if not found:
        suffixes = " ".join(IMAGE_SUFFIXES)
        raise SettingError("root", root, f"has no images ({suffixes})", "Give the folder that holds the images")
    found = [replace(item, load=with_reading(item.load, reading)) for item in found]
    return _name(sorted(found, key=lambda item: (item.name, item.page or 0)), stems or {})


def _pages(root: Path, files: Sequence[Path]) -> list[Input]:
    """Every image file, and every page of those with several, without annotations."""
    counts = {path: count_images(path) for path in files if path.suffix.lower() in _TIFF}
    return [
        Input(path.relative_to(root).as_posix(), "", path, functools.partial(read_image, path, page or 0), page)
        for path in files
        if not _is_page_of(path, counts)
        for page in (range(counts[path]) if counts.get(path, 1) > 1 else [None])
    ]


def _annotated(images: Sequence[Input], records: Sequence[Record]) -> list[Input]:
    """Images with their annotations, then the images that are embedded in annotation files.

    Args:
        images: Image files and pages. Pages of one file cannot be distinguished by annotations, so they get none.
        records: As `kemr_lightning.data.annotation_format.Format.inputs` returns them.
    """
    by_path = {record.path: record for record in records}
    found = []
    for item in images:
        record = by_path.get(item.path) if item.page is None else None
        found.append(item if record is None else _with_annotations(item, record))
    embedded = [record for record in records if record.path.suffix.lower() not in IMAGE_SUFFIXES]
    return found + [_with_annotations(Input(each.name, "", each.path, each.load), each) for each in embedded]


def _with_annotations(item: Input, record: Record) -> Input:
    return replace(
        item,
        annotations=record.annotations,
        annotated_by=record.annotated_by,
        annotated_size=record.stated_size,
    )


def _runs(root: Path, apart: Sequence[Path]) -> list[Path]:
    """The run directories below a folder: images in them are outputs."""
    found: list[Path] = []
    for folder in folders_below(root):
        if folder == root or _within(folder, apart) or any(folder.is_relative_to(run) for run in found):
            continue
        if is_run_directory({path.name for path in folder.iterdir()}):
            found.append(folder)
    names = [folder.relative_to(root).as_posix() for folder in found]
    _pass_over(names, "run directories", "Give the folder inside one if that is to be predicted")
    return found


def _tell_left_out(root: Path, apart: Sequence[Path]) -> None:
    """Warn of files that look like something to predict and are passed over."""
    others = [
        path.relative_to(root).as_posix()
        for folder in folders_below(root)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in _OTHER_IMAGES and not path.name.startswith(".") and not _within(path, apart)
    ]
    _pass_over(others, "images of other formats", f"Convert them to one of {' '.join(IMAGE_SUFFIXES)}")


def _pass_over(names: Sequence[str], what: str, cure: str) -> None:
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        logger.warning("passed over: %d %s: %s. %s.", len(names), what, shown, cure)


def _within(path: Path, folders: Sequence[Path]) -> bool:
    resolved = path.resolve() if folders else path
    return any(resolved.is_relative_to(folder) for folder in folders)


def _is_page_of(path: Path, pages: Mapping[Path, int]) -> bool:
    """Whether an earlier prediction wrote a file as a page beside its multi-page file.

    Args:
        path: The file.
        pages: Number of pages of each TIFF file.
    """
    match = _PAGE.match(path.name)
    if match is None:
        return False
    page = int(match["number"]) - 1
    stem = path.parent / match["stem"]
    files = [file for file, count in pages.items() if count > 1 and 0 <= page < count and file.with_suffix("") == stem]
    if any(_same_picture(path, file, page) for file in files):
        return True
    if files:
        logger.warning("%s shows something else than page %d of %s: it is predicted too", path, page + 1, files[0].name)
    return False


def _same_picture(path: Path, file: Path, page: int) -> bool:
    try:
        return np.array_equal(read_image(path).pixels, read_image(file, page).pixels)
    except UserError:
        return False


def _name(found: Sequence[Input], stems: Mapping[tuple[str, int | None], str]) -> list[Input]:
    """Give every input a stem of its own.

    Upper and lower case count as equal, because some file systems do not distinguish them.

    Args:
        found: Sorted by name.
        stems: As in `find_inputs`.
    """
    taken: set[str] = set()
    named: dict[tuple[str, int | None, Path], str] = {}
    for item in found:
        before = stems.get(item.source)
        if before is not None and before.lower() not in taken:
            named[(*item.source, item.path)] = before
            taken.add(before.lower())
    # Files go first: pages and embedded images get the names that are left.
    for item in sorted(found, key=lambda item: not item.is_file):
        if (*item.source, item.path) in named:
            continue
        path = Path(item.name)
        # Labelme takes every backslash for a separator of folders.
        stem = path.with_suffix("").as_posix().replace("\\", "_") + ("" if item.page is None else f"_p{item.page + 1}")
        if stem.lower() in taken:
            stem = f"{stem}_{path.suffix[1:].lower()}"
        while stem.lower() in taken:
            stem += "_"
        taken.add(stem.lower())
        named[(*item.source, item.path)] = stem
    return [replace(item, stem=named[(*item.source, item.path)]) for item in found]
