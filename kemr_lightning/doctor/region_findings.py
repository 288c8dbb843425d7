"""Annotations that are no instances, groups that are none either, and more instances than count."""

from __future__ import annotations

from collections.abc import Sequence

from kemr_lightning.data.annotation import EVERY_CLASS, Annotation
from kemr_lightning.data.regions import brush_masks, far_apart
from kemr_lightning.doctor.findings import Finding
from kemr_lightning.doctor.gather import ImageToExamine


def region_findings(entries: Sequence[ImageToExamine]) -> list[Finding]:
    """Crowds, regions to ignore, and groups whose shapes lie far apart, image by image.

    Args:
        entries: All images, in parts.
    """
    findings = []
    brushed = {part: brush_masks(_of(part, entries)) > 0 for part in {entry.part for entry in entries}}
    for entry in entries:
        crowds = [each for each in entry.annotations if each.crowd and each.label != EVERY_CLASS]
        if crowds:
            kind = "brush_masks" if brushed[entry.part] else "crowds"
            message = f"{len(crowds)} of {len(entry.annotations)} annotations"
            findings.append(Finding(kind, entry.name, message, tuple(crowd.bounds() for crowd in crowds)))
        ignored = [each for each in entry.annotations if each.label == EVERY_CLASS]
        if ignored:
            places = tuple(each.bounds() for each in ignored)
            findings.append(Finding("ignored", entry.name, f"{len(ignored)} shapes", places))
        for each in entry.annotations:
            if (gap := far_apart(each)) is not None:
                parts = len(each.polygons) + len(each.patches)
                message = f"group {each.group_id} ({each.label}): {parts} shapes, up to {gap:.0f} px apart"
                findings.append(Finding("far_group", entry.name, message, (each.bounds(),)))
    return findings


def _of(part: str, entries: Sequence[ImageToExamine]) -> list[Annotation]:
    return [annotation for entry in entries if entry.part == part for annotation in entry.annotations]


def limit_findings(
    entries: Sequence[ImageToExamine], max_detections: int | None, detections: int | None
) -> list[Finding]:
    """Images with more instances than are scored, or than the model finds.

    Args:
        entries: All images.
        max_detections: Maximum number of detections per image and class that AP counts; None if there is none.
        detections: Maximum number of detections per image of the model; likewise.
    """
    findings = []
    for entry in entries:
        count = sum(not annotation.crowd for annotation in entry.annotations)
        for kind, limit in (("over_scored", max_detections), ("over_detected", detections)):
            if limit is not None and count > limit:
                findings.append(Finding(kind, entry.name, f"{count} instances, limit {limit}"))
    return findings
