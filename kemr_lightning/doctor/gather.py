"""Everything annotated in a folder, read one file at a time; what cannot be read becomes a finding, not an end."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.coco import CocoSource, parse_coco
from kemr_lightning.data.folder import labelme_record, walk
from kemr_lightning.data.image import IMAGE_SUFFIXES, IntensityImage, read_image
from kemr_lightning.data.labelme import LabelmeFile, MissingImageError, NotLabelmeError, find_image, load_image
from kemr_lightning.data.labelme.parse import NO_INSTANCE, interpret, read_document
from kemr_lightning.data.split import GROUP_PATTERN, SPLITS, group_of, read_list, select
from kemr_lightning.doctor.findings import Box, Finding

log = logging.getLogger(__name__)

Lists = Mapping[str, str | Path | Sequence[str] | None]
"""``train``, ``val``, ``test``: names, or a text file of names; None where there is no list."""

_PLACEHOLDER: Mapping[str, Any] = {"label": "-", "points": [], "shape_type": "point"}


@dataclass(frozen=True)
class Entry:
    """One annotated image, not decoded yet.

    Attributes:
        name: The image's path relative to the data root.
        part: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.
        group: What it belongs to, without the part.
        annotations: Those that could be understood.
        load: Decodes the image as training would; None if there is none.
        load_raw: Decodes the image without comparing it with its annotations; None if there is none.
        stated_size: ``(H, W)`` that the annotations are for, or None.
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
        entries: In the order of their names.
        findings: What was wrong on the way.
        parts: ``["train", ...]`` or ``["all"]``.
        bare: The images without annotations, as entries.
    """

    entries: list[Entry]
    findings: list[Finding]
    parts: list[str]
    bare: list[Entry] = field(default_factory=list)


def gather(root: Path, data_format: str, group_pattern: str = GROUP_PATTERN, lists: Lists | None = None) -> Gathered:
    """Read the annotation files of a data folder.

    Args:
        root: The folder.
        data_format: ``"labelme"`` or ``"coco"``.
        group_pattern: See `kemr_lightning.data.split.group_of`.
        lists: As in `kemr_lightning.data.datamodule.SegmentationDataModule`: they say what belongs to which part.

    Raises:
        UserError: The folder is missing, or the format is unknown.
    """
    if not root.is_dir():
        raise UserError(f"data.root={root} is no folder. Give the folder that holds the data.")
    if data_format not in ("labelme", "coco"):
        raise UserError(
            f"task=doctor reads annotations from files. Use data=labelme or data=coco, not {data_format!r}."
        )
    gathered = (_coco if data_format == "coco" else _labelme)(root, group_pattern)
    gathered.entries.sort(key=lambda entry: entry.name)
    given = {part: listed for part, listed in (lists or {}).items() if listed is not None}
    return _listed(gathered, given) if given else gathered


def _listed(gathered: Gathered, lists: Mapping[str, str | Path | Sequence[str]]) -> Gathered:
    """The same with the parts that lists make; an image that two of them name is there twice."""
    names = [entry.name for entry in gathered.entries]
    entries: list[Entry] = []
    findings = list(gathered.findings)
    for part, listed in lists.items():
        source = f"data.lists.{part}"
        if part not in SPLITS:
            raise UserError(f"data.lists has {part!r}. Use train, val and test.")
        for name in read_list(listed) if isinstance(listed, str | Path) else listed:
            try:
                entries += [replace(gathered.entries[at], part=part) for at in select(names, [name], source)]
            except UserError as error:
                findings.append(Finding("lists", name, str(error)))
    used = {entry.name for entry in entries}
    findings += [Finding("unused", name, "is in none of data.lists") for name in names if name not in used]
    # An image that is listed twice in one list is one image.
    unique = {(entry.part, entry.name): entry for entry in entries}
    entries = sorted(unique.values(), key=lambda entry: (entry.name, SPLITS.index(entry.part)))
    return Gathered(entries, findings, [part for part in SPLITS if part in lists], gathered.bare)


def _part_and_group(name: str, parts: Sequence[str], pattern: str) -> tuple[str, str]:
    first, _, rest = name.partition("/")
    part = first if rest and first in parts else "all"
    return part, group_of(rest if part != "all" else name, pattern)


def _labelme(root: Path, pattern: str) -> Gathered:
    parts = [part for part in SPLITS if (root / part).is_dir()] or ["all"]
    findings: list[Finding] = []
    entries: list[Entry] = []
    owners: dict[str, str] = {}
    used: set[Path] = set()
    bare: list[Entry] = []
    for path in walk(root, [".json"]):
        name = path.relative_to(root).as_posix()
        if parts != ["all"] and name.partition("/")[0] not in parts:
            findings.append(Finding("unused", name, "lies outside train/, val/ and test/"))
            continue
        file = _parse(path, name, findings)
        if file is None:
            continue
        found, notice = find_image(file, root)
        entry = _labelme_entry(file, root, found, parts, pattern)
        if notice is not None:
            findings.append(Finding("elsewhere", name, _short(notice, path)))
        if entry.name in owners:
            message = f"{owners[entry.name]} and {name} annotate the same image"
            findings.append(Finding("two_files", entry.name, message, others=(owners[entry.name], name)))
            continue
        owners[entry.name] = name
        used |= set() if found is None else {found}
        if not file.annotations:
            findings.append(Finding("empty", entry.name, f"{name} has no instance"))
        entries.append(entry)
    for path in walk(root, IMAGE_SUFFIXES):
        if path not in used:
            name = path.relative_to(root).as_posix()
            outside = parts != ["all"] and name.partition("/")[0] not in parts
            findings.append(Finding("unused" if outside else "unannotated", name, "no annotation file speaks of it"))
            bare += [] if outside else [_bare(path, name, parts, pattern)]
    return Gathered(entries, findings, parts, bare)


def _bare(path: Path, name: str, parts: Sequence[str], pattern: str) -> Entry:
    load = functools.partial(read_image, path)
    return Entry(name, *_part_and_group(name, parts, pattern), (), load, load, None)


def _parse(path: Path, name: str, findings: list[Finding]) -> LabelmeFile | None:
    """A Labelme file, less the shapes that make it unreadable."""
    try:
        document = read_document(path)
    except NotLabelmeError as error:
        findings.append(Finding("other_json", name, _short(str(error), path)))
        return None
    except UserError as error:
        findings.append(Finding("broken_file", name, _short(str(error), path)))
        return None
    try:
        file = interpret(path, document)
        shapes = document["shapes"] if file.skipped else []
    except UserError as error:
        file, shapes = None, document["shapes"]
        try:
            interpret(path, {**document, "shapes": []})
        except UserError:  # It is not the shapes.
            findings.append(Finding("broken_file", name, _short(str(error), path)))
            return None
    good = []
    for number, raw in enumerate(shapes):
        # Placeholders keep the shape's number in messages.
        try:
            alone = interpret(path, {**document, "shapes": [_PLACEHOLDER] * number + [raw]})
        except UserError as error:
            findings.append(Finding("broken_shape", name, _short(str(error), path)))
            continue
        good.append(raw)
        skipped = dict(alone.skipped)
        skipped["point"] = skipped.get("point", 0) - number
        findings += [_skipped(name, number + 1, raw, reason) for reason, count in skipped.items() if count > 0]
    return interpret(path, {**document, "shapes": good}) if file is None else file


def _skipped(name: str, number: int, raw: Mapping[str, Any], reason: str) -> Finding:
    label = raw.get("label")
    corners = np.array(raw.get("points") or [[0, 0]], dtype=np.float64)
    low, high = corners.min(axis=0), corners.max(axis=0)
    boxes: tuple[Box, ...] = ((float(low[0]), float(low[1]), float(high[0]), float(high[1])),)
    if reason == "degenerate":
        message = f"shape {number} ({label}) has {len(corners)} corners and no area"
        return Finding("degenerate", name, message, boxes if raw.get("points") else ())
    if reason == "outside":
        return Finding("outside", name, f"shape {number} ({label}) is a mask beyond the image")
    what = "encloses nothing" if reason in NO_INSTANCE else "is of an unknown type"
    return Finding("skipped", name, f"shape {number} ({label}) is a {reason}, which {what}", boxes)


def _labelme_entry(file: LabelmeFile, root: Path, found: Path | None, parts: Sequence[str], pattern: str) -> Entry:
    record = labelme_record(file, root)
    part, group = _part_and_group(record.name, parts, pattern)
    load: Callable[[], IntensityImage] | None = record.load
    raw: Callable[[], IntensityImage] | None = None
    if found is not None:
        raw = functools.partial(read_image, found)
    elif file.embedded:
        bare = LabelmeFile(**{**file.__dict__, "image_size": None})
        raw = functools.partial(load_image, bare, root)
    else:
        load = None
    return Entry(record.name, part, group, file.annotations, load, raw, file.image_size)


def _coco(root: Path, pattern: str) -> Gathered:
    findings: list[Finding] = []
    entries: list[Entry] = []
    try:
        source = CocoSource(root)
    except UserError as error:
        return Gathered([], [Finding("broken_file", "", _short(str(error), root))], ["all"])
    owners: dict[str, str] = {}
    used: set[Path] = set()
    bare: list[Entry] = []
    faults: list[str] = []
    for part in source.parts:
        files, folder = source.places(part)
        for path in files:
            name = path.relative_to(root).as_posix()
            try:
                contents = parse_coco(path, root, folder)
            except UserError as error:
                findings.append(Finding("broken_file", name, _short(str(error), path)))
                continue
            findings += [_coco_fault(name, fault, path) for fault in contents.faults]
            faults += contents.faults
            for reason, count in contents.skipped.items():
                kind = "degenerate" if reason == "degenerate" else "skipped"
                findings.append(Finding(kind, name, f"{count} annotations are {reason} and left out"))
            for record in contents.records:
                used.add(record.path)
                if record.name in owners and owners[record.name].partition(":")[0] == part:
                    others = (owners[record.name].partition(":")[2], name)
                    message = f"listed twice, in {others[0]} and {others[1]}"
                    findings.append(Finding("two_files", record.name, message, others=others))
                    continue
                owners[record.name] = f"{part}:{name}"
                annotations = record.annotations or ()
                if not annotations:
                    findings.append(Finding("empty", record.name, f"{name} has no instance for it"))
                group = record.group or _part_and_group(record.name, source.parts, pattern)[1]
                raw = functools.partial(read_image, record.path)
                entries.append(Entry(record.name, part, group, annotations, record.load, raw, None))
    for path in walk(root, IMAGE_SUFFIXES):
        if path not in used:
            name = path.relative_to(root).as_posix()
            findings.append(Finding("unannotated", name, "no COCO file lists it"))
            # One that is listed and damaged has its finding already.
            if not any(path.name in fault for fault in faults):
                bare.append(_bare(path, name, source.parts, pattern))
    return Gathered(entries, findings, source.parts, bare)


def _coco_fault(name: str, fault: str, path: Path) -> Finding:
    kinds = {"is not there": "missing_image", "the file says": "size_mismatch", "cannot open image": "broken_image"}
    kinds["cannot be decoded"] = kinds["not an image"] = "broken_image"
    kind = next((kind for words, kind in kinds.items() if words in fault), "broken_shape")
    return Finding(kind, name, _short(fault, path))


def _short(message: str, path: Path) -> str:
    """A message without the path it begins with, which the finding names already."""
    for prefix in (f"{path}: ", f"{path} "):
        message = message.removeprefix(prefix)
    return message


def load_error(entry: Entry, error: Exception) -> Finding:
    """The finding for an image that could not be loaded."""
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MissingImageError):
        return Finding("missing_image", entry.name, message)
    if entry.load_raw is not None and isinstance(error, UserError):
        try:
            entry.load_raw()
        except Exception:  # decoders raise whatever they stumble over
            log.debug("%s", entry.name, exc_info=True)
        else:
            return Finding("size_mismatch", entry.name, message)
    return Finding("broken_image", entry.name, message)
