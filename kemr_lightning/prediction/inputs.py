"""What there is to predict in a folder: images, pages of images, images inside Labelme files, and their annotations.

Nothing stops at a broken file, and hardly anything is decoded here: what cannot be read shows when its turn comes.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances
from kemr_lightning.core.run_directory import is_run_directory
from kemr_lightning.data.annotation import Annotation, to_instances, turn_annotation
from kemr_lightning.data.coco import SHOWN, CocoSource
from kemr_lightning.data.dataset import LabelMap, Record
from kemr_lightning.data.folder import walk
from kemr_lightning.data.image import IMAGE_SUFFIXES, IntensityImage, read_image, shows_everywhere
from kemr_lightning.data.labelme import LabelmeFile, find_image, load_image, parse_labelme

logger = logging.getLogger(__name__)

_TIFF = (".tif", ".tiff")
_OTHER_IMAGES = (".gif", ".webp", ".heic", ".jp2", ".dcm", ".czi", ".nd2", ".lif", ".svs", ".psd")
_PAGE = re.compile(r"(?P<stem>.+)_p(?P<number>\d{1,9})(_tiff?)?\.png$")


@dataclass(frozen=True)
class Input:
    """One image to predict.

    Attributes:
        name: The file's path relative to the data root.
        stem: Path of its outputs without an ending, relative to their folder; no two inputs share one.
        path: The file, or the JSON that embeds the image.
        load: Decodes the image.
        page: Page of a file with several, from 0, else None.
        annotations: None where there are none.
        annotated_by: The file they are in.
        annotated_size: ``(H, W)`` that it says the image has, or None.
    """

    name: str
    stem: str
    path: Path
    load: Callable[[], IntensityImage]
    page: int | None = None
    annotations: tuple[Annotation, ...] | None = None
    annotated_by: Path | None = None
    annotated_size: tuple[int, int] | None = None

    @property
    def source(self) -> tuple[str, int | None]:
        """What tells this input from the others, whatever its stem: the name, and the page from 1 if there are some."""
        return self.name, None if self.page is None else self.page + 1

    @property
    def is_file(self) -> bool:
        """Whether the file holds this image and nothing else."""
        return self.page is None and self.path.suffix.lower() in IMAGE_SUFFIXES

    @functools.cached_property
    def is_copied(self) -> bool:
        """Whether the outputs have the file itself, which Labelme must be able to show, or else a PNG of its pixels."""
        return self.is_file and shows_everywhere(self.path)

    @property
    def image_name(self) -> str:
        """Path of the image among the outputs: the file's own ending, or ``.png`` for what is not copied."""
        return self.stem + (self.path.suffix if self.is_copied else ".png")

    def version(self) -> list[list[str | int]]:
        """Size and time of the files this depends on; another answer means that they have changed."""
        files = [self.path] if self.annotated_by in (None, self.path) else [self.path, self.annotated_by]
        return [[str(stat.st_size), str(stat.st_mtime_ns)] for stat in (file.stat() for file in files if file)]

    def truth(
        self, label_names: Sequence[str], label_map: LabelMap, size: tuple[int, int], orientation: int = 1
    ) -> Instances | None:
        """The annotations rasterised at the image's size.

        Args:
            label_names: A model's names of labels 1, 2, ... One name takes all annotations that ``label_map`` does not
                drop; with several those of other names are left out.
            label_map: New names by old ones, where it is a mapping; what it drops or does not name is left out.
            size: ``(H, W)`` of the upright image.
            orientation: The EXIF orientation in the image's file. Annotations may be for the pixels as they are stored.

        Returns:
            None without annotations, or if they are for an image of another size.
        """
        if self.annotations is None:
            return None
        annotations: Iterable[Annotation] = self.annotations
        if self.annotated_size not in (None, size):
            if orientation < 5 or self.annotated_size != size[::-1]:
                logger.warning("%s is for another image size; %s is taken as not annotated", self._where, self.name)
                return None
            annotations = [turn_annotation(annotation, orientation, size) for annotation in annotations]
        if isinstance(label_map, Mapping):
            renamed = [(annotation, label_map.get(annotation.label)) for annotation in annotations]
            annotations = [replace(annotation, label=name) for annotation, name in renamed if name is not None]
        if len(label_names) == 1:
            annotations = [replace(annotation, label=label_names[0]) for annotation in annotations]
        ids = {name: number for number, name in enumerate(label_names, start=1)}
        return to_instances(list(annotations), ids, size)[0]

    @property
    def _where(self) -> Path | str:
        return "the COCO file" if self.annotated_by is None else self.annotated_by


def _nothing_written(_: Path) -> bool:
    return False


def find_inputs(
    root: Path,
    data_format: str = "labelme",
    without: Sequence[Path] = (),
    written: Callable[[Path], bool] = _nothing_written,
    stems: Mapping[tuple[str, int | None], str] | None = None,
) -> list[Input]:
    """Everything to predict in a folder and below, sorted by name. Run directories in it are passed over.

    Args:
        root: The folder.
        data_format: Of its annotations, if it has any: ``"labelme"`` or ``"coco"``.
        without: Folders inside it that are passed over (a run's own outputs).
        written: Whether a file is an output of the run that goes on, as it was written: neither image nor annotation.
        stems: Those that inputs had before, by `Input.source`; they keep them.

    Raises:
        UserError: The folder is missing or has no images.
    """
    if not root.is_dir():
        raise UserError(f"data.root={root} is no folder. Give the folder that holds the images.")
    apart = [folder.resolve() for folder in without]
    apart += [folder.resolve() for folder in _runs(root, apart)]
    files = [path for path in walk(root, IMAGE_SUFFIXES) if not _within(path, apart) and not written(path)]
    pages = {path: page_count(path) for path in files if path.suffix.lower() in _TIFF}
    files = [path for path in files if not _is_page_of(path, pages)]
    found = [
        Input(path.relative_to(root).as_posix(), "", path, functools.partial(read_image, path, page or 0), page)
        for path in files
        for page in (range(pages[path]) if pages.get(path, 1) > 1 else [None])
    ]
    if data_format == "coco":
        found = _with_coco(found, root)
    else:
        labelme = _labelme_files(root, apart)
        own = {file.path for file, _ in labelme if written(file.path)}
        images = _by_image([(file, path) for file, path in labelme if file.path not in own])
        found = [_annotated(item, images.get(item.path)) if item.page is None else item for item in found]
        inside = [_embedded(file, root) for file, path in labelme if path is None and file.embedded]
        found += [_annotated(item, None) if item.path in own else item for item in inside]
        alone = [file.path.name for file, path in labelme if path is None and not file.embedded]
        _pass_over(alone, "Labelme files without their image", "Put the images beside them")
    _tell_left_out(root, apart)
    if not found:
        endings = " ".join(IMAGE_SUFFIXES)
        raise UserError(f"data.root={root} has no images ({endings}). Give the folder that holds the images.")
    return _name(sorted(found, key=lambda item: (item.name, item.page or 0)), stems or {})


def _runs(root: Path, apart: Sequence[Path]) -> list[Path]:
    """The run directories below a folder: pictures in them are outputs."""
    found = []
    for place, folders, files in os.walk(root):
        folder = Path(place)
        is_run = is_run_directory({*files, *folders})
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _within(folder / name, apart))
        if folder == root:
            continue
        if is_run:
            found.append(folder)
            folders.clear()
    names = [folder.relative_to(root).as_posix() for folder in found]
    _pass_over(names, "run directories", "Give what is inside as data.root if it is meant")
    return found


def _tell_left_out(root: Path, apart: Sequence[Path]) -> None:
    """Warn of what looks like something to predict and is passed over."""
    links, others = [], []
    for path in sorted(root.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(root).parts) or _within(path, apart):
            continue
        if path.is_symlink() and path.is_dir():
            links.append(path.relative_to(root).as_posix())
        elif path.suffix.lower() in _OTHER_IMAGES:
            others.append(path.relative_to(root).as_posix())
    _pass_over(links, "links to folders", "Give the folder itself as data.root")
    _pass_over(others, "images of other formats", f"Convert them to one of {' '.join(IMAGE_SUFFIXES)}")


def _pass_over(names: Sequence[str], what: str, cure: str) -> None:
    if names:
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        logger.warning("passed over: %d %s: %s. %s.", len(names), what, shown, cure)


def page_count(path: Path) -> int:
    """Number of pages of a TIFF file from its directories alone; 1 if they cannot be read."""
    try:
        with tifffile.TiffFile(path) as file:
            return max(len(file.pages), 1)
    except Exception:  # damaged files raise whatever the parser stumbles over
        logger.debug("pages of %s", path, exc_info=True)
    try:
        with Image.open(path) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # as above; reading the image will say what is wrong
        return 1


def _within(path: Path, folders: Sequence[Path]) -> bool:
    resolved = path.resolve() if folders else path
    return any(resolved.is_relative_to(folder) for folder in folders)


def _is_page_of(path: Path, pages: Mapping[Path, int]) -> bool:
    """Whether a file is a page that an earlier prediction wrote beside its multi-page file."""
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


def _labelme_files(root: Path, apart: Sequence[Path]) -> list[tuple[LabelmeFile, Path | None]]:
    """The Labelme files of a folder with the image each is about; broken ones are reported and left out."""
    files: list[tuple[LabelmeFile, Path | None]] = []
    for path in walk(root, [".json"]):
        if _within(path, apart):
            continue
        try:
            file = parse_labelme(path)
        except UserError as error:
            logger.warning("%s The image is predicted without annotations.", error)
            continue
        files.append((file, find_image(file, root)[0]))
    return files


def _by_image(labelme: Sequence[tuple[LabelmeFile, Path | None]]) -> dict[Path, LabelmeFile]:
    """The Labelme file of each image; of several, the one of the image's name, or else the first."""
    files: dict[Path, list[LabelmeFile]] = {}
    for file, image in labelme:
        if image is not None:
            files.setdefault(image, []).append(file)
    chosen = {}
    for image, several in files.items():
        chosen[image] = next((file for file in several if file.path == image.with_suffix(".json")), several[0])
        if len(several) > 1:
            names = ", ".join(file.path.name for file in several)
            taken = chosen[image].path.name
            logger.warning("%s is annotated by %s: %s is taken. Remove the others.", image.name, names, taken)
    return chosen


def _annotated(item: Input, file: LabelmeFile | None) -> Input:
    if file is None:
        return replace(item, annotations=None, annotated_by=None, annotated_size=None)
    return replace(item, annotations=file.annotations, annotated_by=file.path, annotated_size=file.image_size)


def _embedded(file: LabelmeFile, root: Path) -> Input:
    named = Path((file.image_path or "").replace("\\", "/"))
    path = file.path.with_name(file.path.stem + (named.suffix or ".png"))
    return Input(
        path.relative_to(root).as_posix(),
        "",
        file.path,
        functools.partial(load_image, file, root),
        annotations=file.annotations,
        annotated_by=file.path,
        annotated_size=file.image_size,
    )


def _with_coco(found: Sequence[Input], root: Path) -> list[Input]:
    try:
        source = CocoSource(root)
    except UserError as error:
        logger.warning("%s The images are predicted without annotations.", error)
        return list(found)
    records: dict[Path, Record] = {}
    faults: list[str] = []
    for part in source.parts:
        readable, wrong = source.readable(part)
        records |= {record.path: record for record in readable}
        faults += wrong
    for fault in faults[:SHOWN]:
        logger.warning("%s It is left out.", fault)
    if len(faults) > SHOWN:
        logger.warning("%s: %d more faults in the COCO files; task=doctor lists them", root, len(faults) - SHOWN)
    joined = []
    for item in found:
        record = records.get(item.path)
        usable = record is not None and item.page is None
        size = None if record is None else record.stated_size
        joined.append(replace(item, annotations=record.annotations, annotated_size=size) if usable and record else item)
    return joined


def _name(found: Sequence[Input], stems: Mapping[tuple[str, int | None], str]) -> list[Input]:
    """Give every input a stem of its own; file systems may not tell upper from lower case."""
    taken: set[str] = set()
    named: dict[tuple[str, int | None, Path], str] = {}
    for item in found:
        before = stems.get(item.source)
        if before is not None and before.lower() not in taken:
            named[(*item.source, item.path)] = before
            taken.add(before.lower())
    # Files go first: what is written for pages and embedded images gets the names that are left.
    for item in sorted(found, key=lambda item: not item.is_file):
        if (*item.source, item.path) in named:
            continue
        path = Path(item.name)
        # Labelme takes a backslash for a separator of folders, wherever it is used.
        stem = path.with_suffix("").as_posix().replace("\\", "_") + ("" if item.page is None else f"_p{item.page + 1}")
        if stem.lower() in taken:
            stem = f"{stem}_{path.suffix[1:].lower()}"
        while stem.lower() in taken:
            stem += "_"
        taken.add(stem.lower())
        named[(*item.source, item.path)] = stem
    return [replace(item, stem=named[(*item.source, item.path)]) for item in found]
