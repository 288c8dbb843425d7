"""Everything annotated in a folder, with part and group of each image; what cannot be read becomes a finding."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.formats import format_named
from kemr_lightning.data.image import DEFAULT_READING, IntensityImage, Reading, with_reading
from kemr_lightning.data.labels import LabelMap
from kemr_lightning.data.parts import Lists, names_listed
from kemr_lightning.data.record import MissingImageError
from kemr_lightning.data.regions import Regions
from kemr_lightning.data.split import GROUP_PATTERN, SPLITS, group_of, select, split_name
from kemr_lightning.data.survey import Fault, SurveyedImage
from kemr_lightning.doctor.findings import Finding, SettingNames

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageToExamine:
    """One image to examine, not decoded yet.

    Attributes:
        name: The image's path relative to the data root.
        part: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.
        group: Slide or case of the image, without the part.
        annotations: Those that could be understood.
        load: Decodes the image as training would; None if there is no image.
        load_raw: Decodes the image without comparing it with its annotations; None if there is no image.
        stated_size: ``(H, W)`` of the image according to its annotations, or None.
    """

    name: str
    part: str
    group: str
    annotations: tuple[Annotation, ...]
    load: Callable[[], IntensityImage] | None
    load_raw: Callable[[], IntensityImage] | None
    stated_size: tuple[int, int] | None


@dataclass
class Gathered:
    """What `gather` finds.

    Attributes:
        entries: The annotated images, sorted by name.
        findings: What is wrong with the files.
        parts: ``["train", ...]`` or ``["all"]``.
        bare: The images without annotations, as entries.
    """

    entries: list[ImageToExamine]
    findings: list[Finding]
    parts: list[str]
    bare: list[ImageToExamine] = field(default_factory=list)


def gather(
    root: Path,
    data_format: str,
    group_pattern: str = GROUP_PATTERN,
    lists: Lists | None = None,
    names: SettingNames | None = None,
    regions: Regions | None = None,
    label_map: LabelMap = None,
    reading: Reading = DEFAULT_READING,
) -> Gathered:
    """Read the annotations of a data folder.

    Args:
        root: The folder.
        data_format: Name of its format, see `kemr_lightning.data.formats.FORMATS`.
        group_pattern: See `kemr_lightning.data.split.group_of`.
        lists: See `kemr_lightning.data.parts.Lists`; they replace the folders as parts.
        names: What findings call the settings; None for the names of the arguments.
        regions: Which annotations are instances; None for the defaults.
        label_map: What renames the labels, which are not ignored if it names them.
        reading: How the images are read.

    Raises:
        SettingError: The folder is missing, the format is unknown, or a list is for an unknown part.
    """
    if not root.is_dir():
        raise SettingError("root", root, "is not a folder", "Give the folder that holds the data")
    survey = format_named(data_format).diagnose(root)
    meant = functools.partial((regions or Regions()).meant, label_map=label_map)
    entries = [_entry(image, survey.parts, group_pattern, meant, reading) for image in survey.images]
    bare = [_entry(image, survey.parts, group_pattern, meant, reading) for image in survey.bare]
    entries.sort(key=lambda entry: entry.name)
    gathered = Gathered(entries, [_finding(fault) for fault in survey.faults], survey.parts, bare)
    listed = names_listed(lists or {})
    return _listed(gathered, listed, (names or SettingNames()).lists) if listed else gathered


def _entry(
    image: SurveyedImage,
    parts: Sequence[str],
    pattern: str,
    meant: Callable[[Sequence[Annotation]], tuple[Annotation, ...]],
    reading: Reading,
) -> ImageToExamine:
    record = image.record.read_as(reading)
    decode = None if image.decode is None else with_reading(image.decode, reading)
    group = record.group or group_of(split_name(record.name, parts)[1], pattern)
    load = None if image.decode is None else record.load
    annotations = meant(record.annotations or ())
    return ImageToExamine(record.name, image.part, group, annotations, load, decode, record.stated_size)


def _finding(fault: Fault) -> Finding:
    return Finding(fault.kind, fault.file, fault.message, fault.boxes, others=fault.others)


def _listed(gathered: Gathered, lists: Mapping[str, Sequence[str]], setting: str) -> Gathered:
    """The same images with the parts that lists make; an image in two lists occurs twice."""
    names = [entry.name for entry in gathered.entries]
    entries: list[ImageToExamine] = []
    findings = list(gathered.findings)
    for part, listed in lists.items():
        for name in listed:
            try:
                positions = select(names, [name], f"{setting}.{part}")
            except SettingError as error:
                findings.append(Finding("lists", name, str(error)))
                continue
            entries += [replace(gathered.entries[position], part=part) for position in positions]
    used = {entry.name for entry in entries}
    findings += [Finding("unused", name, f"is in none of {setting}") for name in names if name not in used]
    # An image that one list names twice is one image.
    unique = {(entry.part, entry.name): entry for entry in entries}
    entries = sorted(unique.values(), key=lambda entry: (entry.name, SPLITS.index(entry.part)))
    return Gathered(entries, findings, [part for part in SPLITS if part in lists], gathered.bare)


def load_error(entry: ImageToExamine, error: Exception) -> Finding:
    """The finding for an image that could not be loaded.

    Args:
        entry: The image.
        error: What its ``load`` raised.
    """
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MissingImageError):
        return Finding("missing_image", entry.name, message)
    if entry.load_raw is not None and isinstance(error, UserError):
        try:
            entry.load_raw()
        except Exception:  # decoders raise all kinds of errors
            log.debug("%s", entry.name, exc_info=True)
        else:
            return Finding("size_mismatch", entry.name, message)
    return Finding("broken_image", entry.name, message)
