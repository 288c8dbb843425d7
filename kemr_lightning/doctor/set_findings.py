"""Findings that concern several images of a data set: copies, shared cases, unusual counts and sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kemr_lightning.data.survey import Box
from kemr_lightning.doctor.findings import Finding

COPY = 0.95
"""Two images whose thumbnails correlate at least this much are nearly the same."""

SURE = 0.98
"""Two images whose thumbnails correlate at least this much are the same: encoded again, brightened or rotated.
Different real metaphases stay below 0.92."""

SEVERAL = 2.6
"""An outline of more than this many times the median area holds several chromosomes. Chromosome 1, the largest, has 1.9
times as much DNA as the median chromosome."""

FRAGMENT = 0.2
"""An outline of less than this share of the median area is a fragment. Chromosome 21, the smallest, has 0.35 times as
much DNA as the median chromosome."""

FEW = 10
"""In an image with fewer instances, the median of the whole set is used."""

_BLOCK = 512


@dataclass
class Examined:
    """Summary of one image.

    Attributes:
        name: Path relative to the data root.
        part: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.
        group: Slide or case, without the part.
        size: ``(H, W)``, or None if unknown.
        labels: The labels of the N instances.
        boxes: ``(N, 4)`` tight boxes ``(x0, y0, x1, y1)``, in pixels.
        areas: ``(N,)`` areas of the masks in square pixels; of the boxes if there are no masks.
        lengths: ``(N,)`` longer sides in pixels of the smallest rectangles at any angle around the masks; of the boxes
            if there are no masks.
        widths: ``(N,)`` shorter sides.
        masks: Whether there are masks.
        digest: SHA-256 of the pixels, or None without an image.
        thumb: See `kemr_lightning.doctor.pixel_findings.thumbnail`; None without an image.
    """

    name: str
    part: str
    group: str
    size: tuple[int, int] | None
    labels: list[str]
    boxes: npt.NDArray[np.float64]
    areas: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.float64]
    widths: npt.NDArray[np.float64]
    masks: bool
    digest: str | None = None
    thumb: npt.NDArray[np.float32] | None = None


def copy_findings(images: Sequence[Examined], bare: Sequence[Examined] = (), lists: str = "lists") -> list[Finding]:
    """Find images that occur twice: with the same pixels, or so alike that they show one cell.

    A mirrored or rotated copy is found too.

    Args:
        images: Images with annotations.
        bare: Images without annotations. They are not used for training, so a copy among them does no harm yet.
        lists: What the setting is called that lists the images of each part.
    """
    findings = []
    unused = {image.name for image in bare}
    by_digest: dict[str, list[Examined]] = defaultdict(list)
    for image in [*images, *bare]:
        if image.digest is not None:
            by_digest[image.digest].append(image)
    distinct = []
    for same in by_digest.values():
        distinct.append(same[0])
        for other in same[1:]:
            findings.append(_copy(same[0], other, "same_image", "has the same pixels as", unused, lists))
    with_thumb = [image for image in distinct if image.thumb is not None and image.thumb.any()]
    for first, second, correlation in _near(with_thumb):
        sure = correlation >= SURE
        how = f"{'shows the same as' if sure else 'is very like'} (correlation {correlation:.3f}, maybe rotated)"
        findings.append(_copy(first, second, "same_image" if sure else "near_image", how, unused, lists))
    return findings


def _copy(first: Examined, second: Examined, kind: str, how: str, unused: Set[str], lists: str) -> Finding:
    apart = first.part != second.part
    parts = f" ({second.part} and {first.part})" if apart else ""
    if second.name == first.name:
        return Finding(f"{kind}_parts", second.name, f"is in two parts{parts}, by its files or {lists}")
    message = f"{how} {first.name}{parts}"
    kind = "unannotated_copy" if second.name in unused else f"{kind}_parts" if apart else kind
    return Finding(kind, second.name, message, others=(first.name,))


def _near(images: Sequence[Examined]) -> Iterator[tuple[Examined, Examined, float]]:
    """Pairs of images whose thumbnails agree in one of the eight orientations, with their correlation."""
    if len(images) < 2:
        return
    thumbs = np.stack([image.thumb for image in images if image.thumb is not None])
    flat = thumbs.reshape(len(thumbs), -1)
    for start in range(0, len(images), _BLOCK):
        block = thumbs[start : start + _BLOCK]
        best = np.full((len(block), len(images)), -1.0, dtype=np.float32)
        for turns in range(4):
            turned = np.rot90(block, turns, axes=(1, 2))
            for view in (turned, turned[:, ::-1]):
                # The absolute value, because a copy may be a negative.
                np.maximum(best, np.abs(view.reshape(len(block), -1) @ flat.T), out=best)
        for row, column in zip(*np.nonzero(best >= COPY), strict=True):
            if column > row + start:
                yield images[row + start], images[column], float(best[row, column])


def case_findings(images: Sequence[Examined]) -> list[Finding]:
    """Find slides or cases with images in more than one part."""
    parts: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        parts[image.group][image.part].append(image.name)
    findings = []
    for group, members in sorted(parts.items()):
        if len(members) > 1:
            names = [name for part in members.values() for name in part]
            where = " and ".join(f"{len(part)} in {name}" for name, part in members.items())
            findings.append(Finding("same_case_parts", names[0], f"case {group!r}: {where}", others=tuple(names[1:])))
    return findings


def count_findings(images: Sequence[Examined], expected: int | None, margin: int) -> list[Finding]:
    """Find images with an unusual number of instances, unless those of their slide or case add up to the usual one.

    Args:
        images: All images.
        expected: The usual number; None if there is none.
        margin: Numbers that differ from it by up to this much are not reported.
    """
    if expected is None:
        return []
    together: dict[tuple[str, str], list[int]] = defaultdict(list)
    for image in images:
        together[image.part, image.group].append(len(image.labels))
    findings = []
    for image in images:
        count, parts = len(image.labels), together[image.part, image.group]
        if count == 0 or abs(count - expected) <= margin:
            continue
        if len(parts) > 1 and abs(sum(parts) - expected) <= margin:
            continue
        more = f"; the {len(parts)} images of {image.group!r} have {sum(parts)}" if len(parts) > 1 else ""
        findings.append(Finding("count", image.name, f"{count} instead of {expected}{more}"))
    return sorted(findings, key=lambda finding: finding.file)


def size_findings(images: Sequence[Examined]) -> list[Finding]:
    """Find outlines as large as several chromosomes, or far too small for one; only where there are masks."""
    masked = [image for image in images if image.masks and len(image.areas)]
    if not masked:
        return []
    overall = float(np.median(np.concatenate([image.areas for image in masked])))
    findings = []
    for image in masked:
        median = float(np.median(image.areas)) if len(image.areas) >= FEW else overall
        for label, area, box in zip(image.labels, image.areas, image.boxes.tolist(), strict=True):
            ratio = area / median
            if FRAGMENT <= ratio <= SEVERAL:
                continue
            place: Box = (box[0], box[1], box[2], box[3])
            whose = "the image's" if len(image.areas) >= FEW else "the set's"
            message = f"{label}: {area:.0f} px, {ratio:.2g} times {whose} median"
            findings.append(Finding("several" if ratio > SEVERAL else "fragment", image.name, message, (place,)))
    return findings
