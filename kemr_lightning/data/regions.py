"""Which annotations are instances: crowds, regions to ignore, and shapes grouped for another reason than being one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Patch
from kemr_lightning.data.annotation import EVERY_CLASS, Annotation, Polygon, polygon_area
from kemr_lightning.data.labels import LabelMap, text_of
from kemr_lightning.data.record import Record

IGNORE_LABELS = ("__ignore__", "ignore", "_background_")
"""Labels that annotation programs keep for regions that are no object."""

CROWDS = ("ignore", "instances")
GROUPS = ("join", "separate")

FAR = 0.75
"""Parts of one instance are far apart if the gap between them is longer than this times the longest part."""

DRAWN = 4.0
"""A crowd of one piece is as large as an instance if its area is at most this times the median of all annotations."""


@dataclass(frozen=True)
class Regions:
    """How annotations are read.

    Attributes:
        crowds: What becomes of COCO's crowds (``iscrowd=1``): ``"ignore"``: nothing in them is learned or scored;
            ``"instances"``: each is an instance, for CVAT's brush masks, which are exported as crowds.
        ignore_labels: Shapes with one of these labels are crowds of every class; upper and lower case are alike. A
            label that a label map names is not among them.
        groups: Shapes with one label and ``group_id``: ``"join"``: they are parts of one instance; ``"separate"``:
            each is an instance, for groups that stand for pairs of homologous chromosomes.

    Raises:
        SettingError: A value is unknown.
    """

    crowds: str = "ignore"
    ignore_labels: Sequence[Any] = IGNORE_LABELS
    groups: str = "join"

    def __post_init__(self) -> None:
        for name, known in (("crowds", CROWDS), ("groups", GROUPS)):
            if getattr(self, name) not in known:
                raise SettingError(name, getattr(self, name), "is unknown", f"Use {' or '.join(known)}")
        if isinstance(self.ignore_labels, str | bytes) or not isinstance(self.ignore_labels, Collection):
            raise SettingError(
                "ignore_labels", self.ignore_labels, "is not a list of labels", "Give [__ignore__], or [] for none"
            )
        object.__setattr__(self, "ignore_labels", tuple(self.ignore_labels))

    def apply(self, records: Sequence[Record], label_map: LabelMap = None) -> list[Record]:
        """The records with their annotations as they are meant.

        Args:
            records: As an annotation format reads them.
            label_map: What renames the labels later.
        """
        return [
            record
            if record.annotations is None
            else replace(record, annotations=self.meant(record.annotations, label_map))
            for record in records
        ]

    def meant(self, annotations: Sequence[Annotation], label_map: LabelMap = None) -> tuple[Annotation, ...]:
        """The annotations of one image as they are meant; see `apply`."""
        ignored = self.ignored(label_map)
        return tuple(each for annotation in annotations for each in self._meant(annotation, ignored))

    def ignored(self, label_map: LabelMap) -> set[str]:
        """The labels to ignore, in lower case."""
        named = {text_of(old).casefold() for old in label_map} if isinstance(label_map, Mapping) else set()
        return {text_of(label).casefold() for label in self.ignore_labels} - named

    def _meant(self, annotation: Annotation, ignored: Collection[str]) -> list[Annotation]:
        if annotation.label.casefold() in ignored:
            return [replace(annotation, label=EVERY_CLASS, crowd=True)]
        if annotation.crowd and self.crowds == "instances":
            annotation = replace(annotation, crowd=False)
        return parts_of(annotation) if self.groups == "separate" and annotation.group_id is not None else [annotation]


def parts_of(annotation: Annotation) -> list[Annotation]:
    """Each part of an annotation as an annotation of its own."""
    if len(annotation.polygons) + len(annotation.patches) < 2:
        return [annotation]
    alone = replace(annotation, polygons=(), patches=(), group_id=None, raw=())
    return [
        *(replace(alone, polygons=(polygon,)) for polygon in annotation.polygons),
        *(replace(alone, patches=(patch,)) for patch in annotation.patches),
    ]


def brush_masks(annotations: Sequence[Annotation]) -> int:
    """How many crowds look like single objects drawn with a brush, as CVAT exports them, and not like crowds.

    Args:
        annotations: All annotations of a part.

    Returns:
        The number of crowds that are one piece of a bitmap and no larger than single objects; 0 if most are not.
    """
    crowds = [annotation for annotation in annotations if annotation.crowd and annotation.label != EVERY_CLASS]
    if not crowds:
        return 0
    usual = DRAWN * float(np.median([_area(annotation) for annotation in annotations]))
    drawn = sum(
        not crowd.polygons and len(crowd.patches) == 1 and _area(crowd) <= usual and _one_piece(crowd.patches[0])
        for crowd in crowds
    )
    return drawn if 2 * drawn > len(crowds) else 0


def _area(annotation: Annotation) -> float:
    if annotation.box_only:
        x0, y0, x1, y1 = annotation.bounds()
        return (x1 - x0) * (y1 - y0)
    return sum(map(polygon_area, annotation.polygons)) + sum(patch.area() for patch in annotation.patches)


def _one_piece(patch: Patch) -> bool:
    """Whether nine tenths of a mask hang together."""
    values = patch.values.numpy().astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(values, connectivity=8)
    return bool(stats[1:, cv2.CC_STAT_AREA].max(initial=0) >= 0.9 * values.sum())


def far_apart(annotation: Annotation) -> float | None:
    """The gap in pixels between parts of one group that are too far apart to be one chromosome; None if they are near.

    A chromosome that others cross is drawn in several parts, whose gaps are as wide as a chromosome: shorter than its
    parts together are long.
    """
    if annotation.group_id is None or annotation.crowd:
        return None
    outlines = [*annotation.polygons, *(_outline(patch) for patch in annotation.patches)]
    if len(outlines) < 2:
        return None
    longest = max(float(np.hypot(*(outline.max(axis=0) - outline.min(axis=0)))) for outline in outlines)
    gap = _widest_gap(outlines)
    return gap if gap > FAR * longest else None


def _outline(patch: Patch) -> Polygon:
    """The corners of a bitmap's outlines."""
    contours, _ = cv2.findContours(patch.values.numpy().astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corners = np.concatenate([contour[:, 0] for contour in contours]).astype(np.float64)
    outline: Polygon = corners + np.array([patch.x0 + 0.5, patch.y0 + 0.5])
    return outline


def _widest_gap(outlines: Sequence[Polygon]) -> float:
    """The longest gap to cross if the outlines are joined one after the other, each time over the shortest one."""
    dense = [_dense(outline) for outline in outlines]
    joined, left = [dense[0]], dense[1:]
    widest = 0.0
    while left:
        gaps = [min(_gap(one, other) for other in joined) for one in left]
        nearest = int(np.argmin(gaps))
        widest = max(widest, gaps[nearest])
        joined.append(left.pop(nearest))
    return widest


def _dense(outline: Polygon) -> Polygon:
    """Points along an outline, at most about two pixels apart."""
    steps = np.linspace(0, 1, 8, endpoint=False)[:, None, None]
    following = np.roll(outline, -1, axis=0)
    if np.hypot(*(following - outline).T).max() <= 2:
        return outline
    return (outline + steps * (following - outline)).reshape(-1, 2)


def _gap(first: Polygon, second: Polygon) -> float:
    return float(np.sqrt(((first[:, None] - second[None]) ** 2).sum(axis=2)).min())
