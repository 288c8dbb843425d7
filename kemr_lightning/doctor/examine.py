"""Examines a data set before training: each image once, then all of them together."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kemr_lightning.core.geometry import fitted_size
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import Annotation, annotation_patch, to_instances, with_outline
from kemr_lightning.data.formats import DEFAULT
from kemr_lightning.data.image import DEFAULT_READING, IntensityImage, Reading
from kemr_lightning.data.labels import LabelMap, label_order, new_names
from kemr_lightning.data.parts import Lists
from kemr_lightning.data.regions import Regions
from kemr_lightning.data.split import GROUP_PATTERN
from kemr_lightning.doctor.anchors import SMALLEST, AnchorFit, fit_anchors
from kemr_lightning.doctor.findings import ERROR, KINDS, SEVERITIES, Finding, Kind, SettingNames
from kemr_lightning.doctor.gather import ImageToExamine, gather, load_error
from kemr_lightning.doctor.label_findings import label_findings
from kemr_lightning.doctor.outline_findings import (
    box_pair_findings,
    length_and_width,
    outline_findings,
    pair_findings,
    union_mask,
)
from kemr_lightning.doctor.pixel_findings import digest, place_findings, thumbnail, unlabelled
from kemr_lightning.doctor.region_findings import limit_findings, region_findings
from kemr_lightning.doctor.set_findings import (
    Examined,
    case_findings,
    copy_findings,
    count_findings,
    size_findings,
)

log = logging.getLogger(__name__)

_KEYS = ("lengths", "widths", "areas")


@dataclass(frozen=True)
class Options:
    """What a data set is checked against.

    Attributes:
        label_map: See `kemr_lightning.data.labels.LabelMap`.
        group_pattern: See `kemr_lightning.data.split.group_of`.
        expected: Usual number of chromosomes in an image; None if there is none.
        count_margin: Counts that differ from it by up to this much are not reported.
        resize: ``(width, height)`` that images are fitted into before the model sees them, or None.
        anchor_sizes: The model's anchors, one list of sizes per level; None if it has no anchors.
        aspect_ratios: Their heights over widths.
        anchor_misfits: Share of the chromosomes that the anchors may fit badly, in [0, 1].
        lists: Names of each part's images, see `kemr_lightning.data.parts.Lists`.
        regions: Which annotations are instances.
        max_detections: Maximum number of detections per image and class that AP counts; None if there is none.
        detections: Maximum number of detections per image of the model; None if it is not known.
        names: What findings call the settings.
        reading: How the images are read.
    """

    label_map: LabelMap = "single"
    group_pattern: str = GROUP_PATTERN
    expected: int | None = 46
    count_margin: int = 4
    resize: Sequence[int] | None = None
    anchor_sizes: Sequence[Sequence[float]] | None = None
    aspect_ratios: Sequence[float] | None = None
    anchor_misfits: float = 0.05
    lists: Lists | None = None
    regions: Regions = field(default_factory=Regions)
    max_detections: int | None = None
    detections: int | None = None
    names: SettingNames = field(default_factory=SettingNames)
    reading: Reading = DEFAULT_READING


@dataclass
class Diagnosis:
    """What `examine` has found.

    Attributes:
        root: The data folder.
        data_format: Name of its annotation format.
        findings: Errors first; by kind, then by file.
        images: Name, part and figures of every annotated image.
        labels: How often each label occurs.
        label_names: What ``label_map`` makes of each label; None if it drops it. Labels that the map does not name are
            missing.
        sizes: Quantiles (5, 25, 50, 75, 95 %) of the chromosomes' lengths and widths in pixels and areas in square
            pixels.
        anchors: How the model's anchors fit; None if there are no anchors or no chromosomes.
        load: Functions that decode the images, by name, for pictures.
        names: What texts call the settings.
    """

    root: Path
    data_format: str
    findings: list[Finding]
    images: list[Examined]
    labels: dict[str, int]
    label_names: dict[str, str | None]
    sizes: dict[str, list[float]] = field(default_factory=dict)
    anchors: AnchorFit | None = None
    load: Mapping[str, Callable[[], IntensityImage]] = field(default_factory=dict)
    names: SettingNames = field(default_factory=SettingNames)

    def counts(self) -> dict[str, int]:
        """Number of findings of each severity."""
        tally = Counter(finding.severity for finding in self.findings)
        return {severity: tally[severity] for severity in SEVERITIES}

    @property
    def kinds(self) -> dict[str, Kind]:
        """All kinds of findings, with the names of the settings in their texts."""
        return {name: kind.naming(self.names) for name, kind in KINDS.items()}

    @property
    def failed(self) -> bool:
        """Whether there are errors."""
        return any(finding.severity == ERROR for finding in self.findings)


def examine(
    root: Path,
    data_format: str = DEFAULT,
    options: Options | None = None,
    progress: Callable[[Sequence[ImageToExamine]], Iterable[ImageToExamine]] = iter,
) -> Diagnosis:
    """Examine a data set. What is wrong with its files becomes a finding.

    Args:
        root: The data folder.
        data_format: Name of its annotation format, see `kemr_lightning.data.formats.FORMATS`.
        options: What the data set is checked against.
        progress: Wraps the list of images, to show how far the examination is.

    Raises:
        SettingError: The folder is missing, the format is unknown, or an option is wrong.
    """
    options = options or Options()
    gathered = gather(
        *(root, data_format, options.group_pattern, options.lists, options.names),
        *(options.regions, options.label_map, options.reading),
    )
    findings = [*gathered.findings, *region_findings(gathered.entries)]
    findings += limit_findings(gathered.entries, options.max_detections, options.detections)
    images: list[Examined] = []
    bare: list[Examined] = []
    without = {id(entry) for entry in gathered.bare}
    for entry in progress([*gathered.entries, *gathered.bare]):
        if id(entry) in without:
            bare += _look_at_bare(entry, findings)
            continue
        try:
            image, found = examine_entry(entry)
        except Exception as error:
            # An unforeseen error in one file should not hide what is wrong with the others.
            log.debug("%s could not be examined", entry.name, exc_info=True)
            message = f"{type(error).__name__}: {' '.join(str(error).split())}"
            findings.append(Finding("broken_file", entry.name, message))
            continue
        images.append(image)
        findings += found
    counts = Counter(label for entry in gathered.entries for label in _labels(entry))
    labels = {label: counts[label] for label in sorted(counts, key=label_order)}
    findings += _set_findings(images, gathered.parts, labels, options) + copy_findings(
        images, bare, options.names.lists
    )
    everything = [*gathered.entries, *gathered.bare]
    load = {entry.name: entry.load_raw for entry in everything if entry.load_raw is not None}
    diagnosis = Diagnosis(
        root, data_format, [], images, labels, new_names(labels, options.label_map), load=load, names=options.names
    )
    _measure(diagnosis, options, findings)
    order = {kind: position for position, kind in enumerate(KINDS)}
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), order[finding.kind], finding.file))
    diagnosis.findings = findings
    return diagnosis


def _look_at_bare(entry: ImageToExamine, findings: list[Finding]) -> list[Examined]:
    """An image without annotations, to be compared with others; a finding is added if it cannot be decoded."""
    assert entry.load is not None
    try:
        pixels = entry.load().pixels
    except Exception as error:  # decoders raise all kinds of errors
        log.debug("%s", entry.name, exc_info=True)
        message = " ".join(str(error).split()) or type(error).__name__
        findings.append(Finding("broken_unannotated", entry.name, message))
        return []
    size = (int(pixels.shape[0]), int(pixels.shape[1]))
    image = Examined(entry.name, entry.part, entry.group, size, [], *_nothing(), masks=False)
    image.digest, image.thumb = digest(pixels), thumbnail(pixels)
    return [image]


def _labels(entry: ImageToExamine) -> list[str]:
    return [annotation.label for annotation in entry.annotations if not annotation.crowd]


def examine_entry(entry: ImageToExamine) -> tuple[Examined, list[Finding]]:
    """Examine one image and its annotations.

    Args:
        entry: The image.

    Returns:
        The summary of the image, and what is wrong with it.
    """
    findings: list[Finding] = []
    loaded = _load(entry, findings)
    pixels = None if loaded is None else loaded.pixels
    size = (int(pixels.shape[0]), int(pixels.shape[1])) if pixels is not None else entry.stated_size
    # An image of the wrong size is still compared with the other images.
    matching = pixels is not None and not any(finding.kind == "size_mismatch" for finding in findings)
    if entry.stated_size is not None and not matching:
        size = entry.stated_size
    annotations = [annotation for annotation in entry.annotations if not annotation.crowd]
    boxed = [annotation for annotation in annotations if annotation.box_only]
    if boxed:
        message = f"{len(boxed)} of {len(annotations)} annotations"
        findings.append(Finding("boxes", entry.name, message))
        if len(boxed) < len(annotations):
            annotations = [annotation for annotation in annotations if not annotation.box_only]
            boxed = []
    image = Examined(entry.name, entry.part, entry.group, size, [], *_nothing(), masks=not boxed)
    if size is not None:
        crowds = [annotation for annotation in entry.annotations if annotation.crowd]
        findings += _examine_annotations(image, annotations, crowds, size, pixels if matching else None)
    if pixels is not None:
        image.digest, image.thumb = digest(pixels), thumbnail(pixels)
    return image, findings


def _examine_annotations(
    image: Examined,
    annotations: Sequence[Annotation],
    crowds: Sequence[Annotation],
    size: tuple[int, int],
    pixels: npt.NDArray[np.uint8] | None,
) -> list[Finding]:
    """Measure the annotations of an image and find what is wrong with them.

    Args:
        image: Gets the labels, boxes and sizes of the instances.
        annotations: Either all with masks, or all with a box only.
        crowds: Regions without instances of their own.
        size: ``(H, W)`` of the image.
        pixels: ``(H, W)`` uint8, or None if the annotations cannot be compared with them.
    """
    findings = outline_findings(image.name, annotations, size)
    numbers = {label: number for number, label in enumerate(sorted({a.label for a in annotations}), start=1)}
    instances, positions = to_instances(annotations, numbers, size)
    image.labels = [annotations[position].label for position in positions]
    image.boxes = instances.boxes.numpy().astype(np.float64).reshape(-1, 4)
    sides = image.boxes[:, 2:] - image.boxes[:, :2]
    image.areas, image.lengths, image.widths = sides.prod(axis=1), sides.max(axis=1), sides.min(axis=1)
    if instances.patches is None:
        return findings + box_pair_findings(image.name, image.boxes, image.labels)
    if instances.patches:
        image.areas = np.array([float(patch.area()) for patch in instances.patches])
        image.lengths, image.widths = np.array([length_and_width(patch) for patch in instances.patches]).T
        findings += pair_findings(image.name, instances.patches, image.labels, size)
        if pixels is not None:
            findings += _compare_with_pixels(
                image, pixels, union_mask([*instances.patches, *_patches(crowds, size)], size)
            )
    return findings


def _patches(crowds: Sequence[Annotation], size: tuple[int, int]) -> list[Patch]:
    """The masks of crowds on an image of ``(H, W)``."""
    drawn = (annotation_patch(with_outline(crowd), size) for crowd in crowds)
    return [patch for patch in drawn if patch is not None]


def _compare_with_pixels(image: Examined, pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> list[Finding]:
    """Find annotations that miss the chromosomes, and chromosomes without annotations.

    Args:
        image: With the sizes of its instances.
        pixels: ``(H, W)`` uint8.
        mask: ``(H, W)`` bool, every annotated pixel.
    """
    misplaced = place_findings(image.name, pixels, mask)
    if misplaced:
        return misplaced
    height, width = mask.shape
    findings = []
    for box, area in unlabelled(pixels, mask, float(np.median(image.areas)), float(np.median(image.widths))):
        cut = box[0] <= 1 or box[1] <= 1 or box[2] >= width - 1 or box[3] >= height - 1
        edge = ", cut by the image's edge" if cut else ""
        message = f"blob of {area} px at ({box[0]:.0f}, {box[1]:.0f}){edge}"
        findings.append(Finding("unlabelled", image.name, message, (box,)))
    return findings


def _nothing() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return np.zeros((0, 4)), np.zeros(0), np.zeros(0), np.zeros(0)


def _load(entry: ImageToExamine, findings: list[Finding]) -> IntensityImage | None:
    """The image of an entry; what is unusual about it is added to the findings."""
    if entry.load is None:
        findings.append(Finding("missing_image", entry.name, "neither a file nor embedded"))
        return None
    try:
        loaded = entry.load()
    except Exception as error:  # decoders raise all kinds of errors
        log.debug("%s", entry.name, exc_info=True)
        finding = load_error(entry, error)
        findings.append(finding)
        return entry.load_raw() if finding.kind == "size_mismatch" and entry.load_raw is not None else None
    if loaded.orientation != 1:
        findings.append(Finding("exif", entry.name, f"EXIF orientation {loaded.orientation}"))
    if loaded.channel is not None:
        findings.append(Finding("channel", entry.name, f"read from {loaded.channel}"))
    if loaded.pages > 1:
        findings.append(Finding("pages", entry.name, f"{loaded.pages} pages"))
    return loaded


def _set_findings(
    images: Sequence[Examined], parts: Sequence[str], labels: Mapping[str, int], options: Options
) -> list[Finding]:
    findings = case_findings(images)
    findings += count_findings(images, options.expected, options.count_margin)
    findings += size_findings(images)
    findings += label_findings(labels, options.label_map)
    if not labels:
        findings.append(Finding("nothing", "", "there is nothing to train on"))
    for part in parts:
        if part != "all" and not any(image.part == part for image in images):
            findings.append(Finding("nothing", part, f"{part}/ has no annotated image"))
    if "test" not in parts and parts != ["all"]:
        findings.append(Finding("no_test", "", f"there are {' and '.join(parts)}"))
    return findings


def _measure(diagnosis: Diagnosis, options: Options, findings: list[Finding]) -> None:
    """Measure the chromosomes and compare them with the model's scale and anchors."""
    images = [image for image in diagnosis.images if len(image.labels) and image.size is not None]
    if not images:
        return
    for key in _KEYS:
        values = np.concatenate([getattr(image, key) for image in images])
        diagnosis.sizes[key] = [float(value) for value in np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])]
    scaled, narrow = [], []
    for image in images:
        assert image.size is not None
        height, width = fitted_size(image.size, options.resize)
        scale = np.array([width / image.size[1], height / image.size[0]])
        scaled.append((image.boxes[:, 2:] - image.boxes[:, :2]) * scale)
        narrow.append(image.widths * scale.mean())
    sides = np.maximum(np.concatenate(scaled), 1.0)
    across = float(np.median(np.concatenate(narrow)))
    if across < SMALLEST:
        findings.append(Finding("small", "", f"typically {across:.1f} px across as the model sees them"))
    if options.anchor_sizes is None or options.aspect_ratios is None:
        return
    fit = fit_anchors(sides, options.anchor_sizes, options.aspect_ratios, options.anchor_misfits)
    diagnosis.anchors = fit
    if fit.below > options.anchor_misfits:
        message = f"{fit.below:.1%} of the boxes have no anchor with IoU 0.5 (best median {fit.median_iou:.2f})"
        names = options.names
        if fit.advised_sizes is not None and fit.advised_below is not None:
            message += (
                f"; with {names.anchor_sizes}={fit.advised_sizes} {names.aspect_ratios}={fit.advised_ratios} "
                f"it would be {fit.advised_below:.1%}"
            )
        findings.append(Finding("anchors", "", message))
