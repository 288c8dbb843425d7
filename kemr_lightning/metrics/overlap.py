"""AP of overlapped and of isolated annotations, each ignoring the other kind as COCO ignores other sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kemr_lightning.core import rle
from kemr_lightning.metrics.average_precision import MAX_DETECTIONS, AveragePrecision, average_precision
from kemr_lightning.metrics.records import Entry, ImageRecord

OVERLAP_PIXELS = 20
"""An annotation counts as overlapped if it shares at least this many pixels with another one."""

_CODES = {"overlapped": 1.0, "isolated": 2.0}
"""The area that stands for each kind in COCO's evaluation."""


def overlapped(item: ImageRecord) -> list[bool]:
    """Whether each annotation of an image shares at least `OVERLAP_PIXELS` pixels with another."""
    truth = [item.rle(entry) for entry in item.truth]
    crossings = rle.intersections(truth, truth)
    np.fill_diagonal(crossings, 0)
    return [bool(row.max(initial=0) >= OVERLAP_PIXELS) for row in crossings]


def average_precision_by_overlap(
    records: Sequence[ImageRecord], max_detections: int = MAX_DETECTIONS
) -> dict[str, AveragePrecision]:
    """Mask AP of either kind of annotation.

    As with COCO's small, medium and large objects, annotations of the other kind and the predictions matched to them
    count neither for nor against. An unmatched prediction counts against the kind of the annotation with which it
    shares most pixels, or against the isolated ones if it shares none.

    Args:
        records: Every image of the set, with masks.
        max_detections: See `average_precision`.

    Returns:
        ``overlapped`` and ``isolated``, each with its precision; figures of a kind that does not occur are NaN.
    """
    coded = [_coded(item) for item in records]
    return {
        name: average_precision(coded, True, (code - 0.5, code + 0.5), max_detections) for name, code in _CODES.items()
    }


def _coded(item: ImageRecord) -> ImageRecord:
    """The record with each entry's kind in place of its area, the quantity by which COCO's evaluation ignores."""
    kinds = [_CODES["overlapped" if flag else "isolated"] for flag in overlapped(item)]
    shared = rle.intersections([item.rle(p) for p in item.predictions], [item.rle(t) for t in item.truth])
    nearest = [
        kinds[int(row.argmax())] if row.max(initial=0) > 0 else _CODES["isolated"]
        for row in shared.reshape(len(item.predictions), len(item.truth))
    ]

    def marked(entries: Sequence[Entry], codes: Sequence[float]) -> list[Entry]:
        return [replace(entry, area=code) for entry, code in zip(entries, codes, strict=True)]

    return replace(item, truth=marked(item.truth, kinds), predictions=marked(item.predictions, nearest))
