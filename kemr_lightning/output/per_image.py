"""Tables of a test: ``per_image.csv`` (what was found in each image) and ``precision_recall.csv`` (its curves)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kemr_lightning.metrics.average_precision import RECALL_POINTS
from kemr_lightning.metrics.matching import UNCOUNTED, ImageMatch
from kemr_lightning.metrics.records import ImageRecord

ANNOTATED = ("found", "missed", "merged", "split", "mislabelled")
"""Numbers of annotations of each kind; they add up to ``annotated``."""

WRONG = ("false", "duplicate", "merging", "splitting")
"""Numbers of wrong predictions of each kind; with ``found`` and ``mislabelled`` they add up to ``count``."""

FOUND = (*ANNOTATED, *WRONG, "mean_iou")
IMAGE = ("image_id", "file_name", "width", "height", "annotated", "count")
CURVE_COLUMNS = ("masks", "iou", "recall", "precision")


def image_columns(refined: bool) -> list[str]:
    """The columns of ``per_image.csv``.

    Args:
        refined: Whether there was a refiner; then columns ``initial_NAME`` on the initial masks follow those on the
            final ones.
    """
    return [*IMAGE, *FOUND, *(f"initial_{name}" for name in FOUND if refined)]


def image_rows(records: Sequence[ImageRecord], matches: Mapping[str, Sequence[ImageMatch]]) -> Iterator[dict[str, Any]]:
    """The rows of ``per_image.csv``, one per image.

    Args:
        records: The images, with their annotations.
        matches: ``initial`` and, with a refiner, ``refined``: the matching of each image, in the same order.

    Yields:
        Column -> value, see `image_columns`. ``mean_iou`` is the mean over the image's pairs, in [0, 1], or None if
        there are none.
    """
    final = matches.get("refined", matches["initial"])
    for position, item in enumerate(records):
        row = {
            "image_id": item.image_id,
            "file_name": item.name,
            "width": item.size[1],
            "height": item.size[0],
            "annotated": len(item.truth),
            "count": sum(kind not in UNCOUNTED for kind in final[position].predictions),
            **found_in(final[position]),
        }
        if "refined" in matches:
            row |= {f"initial_{name}": value for name, value in found_in(matches["initial"][position]).items()}
        yield row


def found_in(match: ImageMatch) -> dict[str, Any]:
    """The columns named in `FOUND`, for one matching."""
    return {
        "found": len(match.pairs),
        **{kind: match.truth.count(kind) for kind in ("missed", "merged", "split", "mislabelled")},
        **{kind: match.predictions.count(kind) for kind in ("false", "duplicate", "merging", "splitting")},
        "mean_iou": round(sum(pair.iou for pair in match.pairs) / len(match.pairs), 4) if match.pairs else None,
    }


def curve_rows(extended: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of ``precision_recall.csv``: curves of masks, or of boxes where the annotations have only boxes.

    Args:
        extended: ``initial`` and, with a refiner, ``refined``: figures from
            `kemr_lightning.metrics.segmentation.extended_figures`.

    Yields:
        Column -> value, see `CURVE_COLUMNS`; recall and interpolated precision are in [0, 1].
    """
    kind = "mask" if "mask" in extended["initial"] else "box"
    for name, figures in extended.items():
        for iou, curve in figures[kind]["curves"].items():
            for recall, precision in zip(RECALL_POINTS.tolist(), curve, strict=True):
                yield {"masks": name, "iou": iou, "recall": round(recall, 2), "precision": round(precision, 6)}
