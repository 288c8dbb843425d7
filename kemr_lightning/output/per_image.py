"""``per_image.csv``, what a test found in each image, and ``precision_recall.csv``, its curves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kemr_lightning.metrics.average_precision import RECALL_POINTS
from kemr_lightning.metrics.matching import ImageMatch
from kemr_lightning.metrics.records import ImageRecord

ANNOTATED = ("found", "missed", "merged", "split", "mislabelled")
"""What becomes of annotations; they add up to ``annotated``."""

WRONG = ("false", "duplicate", "merging", "splitting")
"""What is wrong with predictions; with ``found`` and ``mislabelled`` they add up to ``count``."""

FOUND = (*ANNOTATED, *WRONG, "mean_iou")
IMAGE = ("image_id", "file_name", "width", "height", "annotated", "count")
CURVE_COLUMNS = ("masks", "iou", "recall", "precision")


def image_columns(refined: bool) -> list[str]:
    """The columns of ``per_image.csv``: final masks, then with refinement the initial ones as ``initial_NAME``."""
    return [*IMAGE, *FOUND, *(f"initial_{name}" for name in FOUND if refined)]


def image_rows(records: Sequence[ImageRecord], matches: Mapping[str, Sequence[ImageMatch]]) -> Iterator[dict[str, Any]]:
    """A row per image.

    Args:
        records: The images, with their annotations.
        matches: ``initial`` and, with a refiner, ``refined``: the matching of each of the images, in the same order.

    Yields:
        `image_columns` -> value. ``mean_iou`` is that of the pairs, in [0, 1], None without any.
    """
    final = matches.get("refined", matches["initial"])
    for position, item in enumerate(records):
        row = {
            "image_id": item.image_id,
            "file_name": item.name,
            "width": item.size[1],
            "height": item.size[0],
            "annotated": len(item.truth),
            "count": sum(kind != "unsure" for kind in final[position].predictions),
            **found_in(final[position]),
        }
        if "refined" in matches:
            row |= {f"initial_{name}": value for name, value in found_in(matches["initial"][position]).items()}
        yield row


def found_in(match: ImageMatch) -> dict[str, Any]:
    """The columns named in `FOUND`, of one matching."""
    return {
        "found": len(match.pairs),
        **{kind: match.truth.count(kind) for kind in ("missed", "merged", "split", "mislabelled")},
        **{kind: match.predictions.count(kind) for kind in ("false", "duplicate", "merging", "splitting")},
        "mean_iou": round(sum(pair.iou for pair in match.pairs) / len(match.pairs), 4) if match.pairs else None,
    }


def curve_rows(extended: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The precision-recall curves, of masks, or of boxes where the annotations have nothing else.

    Args:
        extended: ``initial`` and, with a refiner, ``refined``, as
            `kemr_lightning.metrics.segmentation.extended_figures` gives them.

    Yields:
        `CURVE_COLUMNS` -> value; recall and interpolated precision in [0, 1].
    """
    kind = "mask" if "mask" in extended["initial"] else "box"
    for name, figures in extended.items():
        for iou, curve in figures[kind]["curves"].items():
            for recall, precision in zip(RECALL_POINTS.tolist(), curve, strict=True):
                yield {"masks": name, "iou": iou, "recall": round(recall, 2), "precision": round(precision, 6)}
