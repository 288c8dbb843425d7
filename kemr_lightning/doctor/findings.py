"""What can be wrong with a data set: the kinds of findings, how severe each is and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from kemr_lightning.data.annotation import Polygon
from kemr_lightning.data.formats import FORMATS
from kemr_lightning.data.survey import Box

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    Attributes:
        severity: ``"error"``: training would stop or give wrong figures; ``"warning"``: a person should look;
            ``"note"``: good to know.
        title: What is wrong, in a few words. Settings are placeholders, ``{lists}``, see `SettingNames`.
        advice: What to do, with placeholders as in the title.
    """

    severity: str
    title: str
    advice: str

    def naming(self, names: SettingNames) -> Kind:
        """The same kind with the names of the settings filled in."""
        words = {**asdict(names), "formats": ", ".join(FORMATS)}
        return Kind(self.severity, self.title.format(**words), self.advice.format(**words))


@dataclass(frozen=True)
class SettingNames:
    """What the caller's settings are called, for texts that name them; the default names are those of arguments."""

    root: str = "root"
    data_format: str = "format"
    label_map: str = "label_map"
    group_pattern: str = "group_pattern"
    lists: str = "lists"
    channel: str = "channel"
    resize: str = "resize"
    anchor_sizes: str = "anchor_sizes"
    aspect_ratios: str = "aspect_ratios"
    crowds: str = "crowds"
    groups: str = "groups"
    ignore_labels: str = "ignore_labels"
    max_detections: str = "max_detections"
    detections: str = "detections"


KINDS: dict[str, Kind] = {
    "broken_file": Kind(
        ERROR, "annotation file cannot be read", "Save it again in Labelme, export it again, or remove it."
    ),
    "broken_shape": Kind(ERROR, "shape that makes its file unreadable", "Draw or label it again in Labelme."),
    "missing_image": Kind(ERROR, "image of an annotation file is missing", "Put the image beside its JSON."),
    "broken_image": Kind(ERROR, "image cannot be decoded", "Replace the damaged file."),
    "size_mismatch": Kind(ERROR, "image has another size than its annotations", "Use the image that was annotated."),
    "lists": Kind(ERROR, "{lists} does not fit the folder", "Correct the list."),
    "parts": Kind(ERROR, "folders that may be parts", "Name the parts train/, val/ and test/, one folder each."),
    "two_files": Kind(ERROR, "image annotated by two files", "Keep one of them."),
    "nothing": Kind(
        ERROR,
        "no annotated image",
        "Correct {root} or {data_format} ({formats}), or annotate some images.",
    ),
    "label_unmapped": Kind(ERROR, "label missing in {label_map}", "Add it to {label_map} (null drops a label)."),
    "same_image_parts": Kind(ERROR, "same image in two parts", "Take it out of one: test figures would be optimistic."),
    "near_image_parts": Kind(
        WARNING, "nearly the same image in two parts", "Take it out of one: test figures may be optimistic."
    ),
    "same_case_parts": Kind(
        WARNING,
        "same slide or case in two parts, by name",
        "Move all its images to one part; if the names mean something else, set {group_pattern}.",
    ),
    "same_image": Kind(WARNING, "same image twice in a part", "Keep one: a split may put the two on both sides."),
    "near_image": Kind(
        WARNING,
        "nearly the same image twice in a part",
        "Keep one, unless both are wanted: a split may put them on both sides.",
    ),
    "unannotated_copy": Kind(
        WARNING,
        "image without annotations that is a copy of another",
        "Delete it, or mind it when you annotate it: put both in the same split, or delete one.",
    ),
    "broken_unannotated": Kind(
        WARNING, "image without annotations that cannot be decoded", "Replace the damaged file, or remove it."
    ),
    "off_target": Kind(
        WARNING, "annotations do not lie on the image's chromosomes", "Check that the image is the right one."
    ),
    "turned": Kind(
        WARNING, "annotations fit the image better mirrored or rotated", "Export image and annotations again."
    ),
    "exif": Kind(
        WARNING,
        "image with an EXIF rotation",
        "Save the image upright: programs disagree on what coordinates in such files mean.",
    ),
    "pages": Kind(
        WARNING, "file with several pages, of which only the first is used", "Export pages as files of their own."
    ),
    "same_chromosome": Kind(WARNING, "chromosome outlined twice", "Delete one of the two outlines."),
    "nested": Kind(
        WARNING, "outline inside another", "If it is a part of the other chromosome, delete it or join the two."
    ),
    "several": Kind(WARNING, "outline as large as several chromosomes", "Outline each chromosome on its own."),
    "fragment": Kind(
        WARNING, "outline far smaller than the others", "Delete it, or join it to its chromosome by group_id."
    ),
    "unlabelled": Kind(
        WARNING,
        "blob like a chromosome, without an annotation",
        "Outline chromosomes, or crop them away: they count as background in training and as false in test figures.",
    ),
    "count": Kind(WARNING, "unusual number of chromosomes", "Look for missed, merged and doubled chromosomes."),
    "self_crossing": Kind(
        WARNING, "outline that crosses itself", "Draw it again: the loops' pixels are lost or inverted."
    ),
    "degenerate": Kind(WARNING, "shape that encloses nothing", "Delete it or draw it again."),
    "skipped": Kind(WARNING, "shape that is not an instance", "Outline it as a polygon, or delete it."),
    "outside": Kind(WARNING, "outline beyond the image", "Draw it inside: what lies beyond is cut off."),
    "brush_masks": Kind(
        WARNING,
        "crowds (iscrowd=1) that look like single chromosomes, as CVAT exports masks drawn with its brush",
        "They are neither trained on nor scored. If they are chromosomes: {crowds}=instances.",
    ),
    "far_group": Kind(
        WARNING,
        "shapes of one group_id far apart: together they are one instance",
        "If groups are pairs of homologous chromosomes: {groups}=separate. Otherwise correct the group_id.",
    ),
    "over_scored": Kind(
        WARNING,
        "more instances in an image than count in AP",
        "Perfect predictions would not score 100: set {max_detections} to the largest number.",
    ),
    "over_detected": Kind(
        WARNING, "more instances in an image than the model finds", "Set {detections} well above the largest number."
    ),
    "boxes": Kind(WARNING, "annotations with a box and no mask", "Masks are needed to train; boxes are scored only."),
    "label_noise": Kind(WARNING, "labels that look alike or are rare", "Rename them in Labelme or by {label_map}."),
    "label_merged": Kind(
        WARNING,
        "different labels that {label_map}=single merges into one class",
        "If some are not chromosomes, drop them: {label_map}={{good: chromosome, bad: null}}.",
    ),
    "empty": Kind(WARNING, "annotation file without any instance", "Annotate the image, or remove the file."),
    "anchors": Kind(
        WARNING, "chromosomes that the model's anchors do not fit", "Set {anchor_sizes} and aspect_ratios."
    ),
    "small": Kind(WARNING, "chromosomes too small for the model", "Enlarge the images: {resize}=[width, height]."),
    "crowds": Kind(
        NOTE, "crowds (iscrowd=1)", "Nothing in them is learned or scored. {crowds}=instances makes instances of them."
    ),
    "ignored": Kind(
        NOTE, "shapes with a label of {ignore_labels}", "Nothing in them is learned or scored; change the list if not."
    ),
    "unused_part": Kind(
        WARNING, "folder that looks like a part and is not used", "Rename it to train/, val/ or test/, or move it away."
    ),
    "no_test": Kind(NOTE, "no test part", "Validation images will be reported, which is optimistic. Add test/."),
    "channel": Kind(
        NOTE,
        "image of several channels, of which one is read",
        "Nothing, if it shows the chromosomes; {channel}=NAME or a number from 1 reads another.",
    ),
    "elsewhere": Kind(NOTE, "image is not where its file says", "Nothing, if the image found is the right one."),
    "other_json": Kind(NOTE, "JSON that is not an annotation file", "Nothing; it is skipped."),
    "unannotated": Kind(NOTE, "image without annotations", "It is not used for training. Annotate it, or leave it."),
    "unused": Kind(
        NOTE,
        "file outside train/, val/ and test/, or in none of {lists}",
        "It is not used. Move it into a part, or leave it.",
    ),
}
"""All kinds, the most severe first; reports list them in this order."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        kind: One of `KINDS`.
        file: The image or annotation file concerned, relative to the data root; empty for the whole set.
        message: What exactly is wrong.
        boxes: Where in the image, in pixels of the upright image.
        outlines: Outlines to draw in a picture of it.
        others: Further files concerned, such as the other copy of an image.
    """

    kind: str
    file: str
    message: str
    boxes: tuple[Box, ...] = ()
    outlines: tuple[Polygon, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        """``"error"``, ``"warning"`` or ``"note"``."""
        return KINDS[self.kind].severity
