"""AP of overlapped and of isolated annotations, each with the other kind left out as COCO leaves out other sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kemr_lightning.core import rle
from kemr_lightning.metrics.average_precision import AveragePrecision, average_precision
from kemr_lightning.metrics.records import Entry, ImageRecord

OVERLAP_PIXELS = 20
"""Pixels that an annotation shares with another at least to count as overlapped."""

_CODES = {"overlapped": 1.0, "isolated": 2.0}


def overlapped(item: ImageRecord) -> list[bool]:
    """Whether each annotation of an image shares at least `OVERLAP_PIXELS` pixels with another."""
    truth = [item.rle(entry) for entry in item.truth]
    crossings = rle.intersections(truth, truth)
    np.fill_diagonal(crossings, 0)
    return [bool(row.max(initial=0) >= OVERLAP_PIXELS) for row in crossings]


def average_precision_by_overlap(records: Sequence[ImageRecord]) -> dict[str, AveragePrecision]:
    """Mask AP of either kind of annotation.

    As with COCO's small, medium and large objects, annotations of the other kind, and predictions that are matched to
    one, count neither for nor against; an unmatched prediction counts against the kind of the annotation it shares
    most pixels with, or against the isolated ones where it shares none.

    Args:
        records: Every image of the set, with masks.

    Returns:
        ``overlapped`` and ``isolated`` precision; NaN figures for a kind that does not occur.
    """
    coded = [_coded(item) for item in records]
    return {name: average_precision(coded, True, (code - 0.5, code + 0.5)) for name, code in _CODES.items()}


def _coded(item: ImageRecord) -> ImageRecord:
    """The record with the kind of each entry in the place of its area, by which COCO's evaluation ignores."""
    kinds = [_CODES["overlapped" if flag else "isolated"] for flag in overlapped(item)]
    shared = rle.intersections([item.rle(p) for p in item.predictions], [item.rle(t) for t in item.truth])
    nearest = [
        kinds[int(row.argmax())] if row.max(initial=0) > 0 else _CODES["isolated"]
        for row in shared.reshape(len(item.predictions), len(item.truth))
    ]

    def marked(entries: Sequence[Entry], codes: Sequence[float]) -> list[Entry]:
        return [replace(entry, area=code) for entry, code in zip(entries, codes, strict=True)]

    return replace(item, truth=marked(item.truth, kinds), predictions=marked(item.predictions, nearest))
