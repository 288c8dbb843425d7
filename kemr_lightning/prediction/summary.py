"""Tables about all predicted images: ``summary.csv``, and ``index.csv`` of the crops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kemr_lightning.core.files import write_csv
from kemr_lightning.metrics.matching import ImageMatch, match
from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.output.per_image import found_in
from kemr_lightning.prediction.image_state import ImageState

COLUMNS = (
    *("image_id", "file_name", "source", "page", "width", "height", "count", "expected", "shared_pixels"),
    *("touching_border", "mean_score", "lowest_score", "review_score", "reasons", "seconds"),
)
EVALUATED = ("annotated", "found", "missed", "merged", "split", "mislabelled", "false", "mean_iou")
CROP_COLUMNS = (
    *("file", "image_id", "file_name", "instance", "label", "score", "area", "length", "width", "angle", "x", "y"),
    *("shared_pixels", "at_border", "marks", "profile"),
)


def write_summary(
    path: Path, states: Iterable[tuple[ImageState, ImageMatch | None]], expected: int | None, evaluated: bool
) -> None:
    """Write a row for each image.

    Args:
        path: The CSV file.
        states: The images by number, each with the matching of its final masks (`match_annotations`).
        expected: Usual number of chromosomes, or None.
        evaluated: Whether to add the columns about annotations.
    """
    rows = (
        summary_columns(state, expected) | (evaluation_columns(state, found) if evaluated else {})
        for state, found in states
    )
    write_csv(path, [*COLUMNS, *(EVALUATED if evaluated else ())], rows)


def summary_columns(state: ImageState, expected: int | None) -> dict[str, Any]:
    """The columns of an image that do not depend on annotations."""
    record = state.final
    scores = [record.predictions[index].score for index in state.written]
    return {
        "image_id": record.image_id,
        "file_name": record.name,
        "source": state.source[0],
        "page": state.source[1],
        "width": record.size[1],
        "height": record.size[0],
        "count": len(scores),
        "expected": expected,
        "shared_pixels": state.shared,
        "touching_border": sum(state.border),
        "mean_score": round(sum(scores) / len(scores), 4) if scores else None,
        "lowest_score": round(min(scores), 4) if scores else None,
        "review_score": state.review.score,
        "reasons": "; ".join(state.review.reasons),
        "seconds": state.seconds,
    }


def match_annotations(record: ImageRecord, annotated: bool, score: float) -> ImageMatch | None:
    """Match the predictions of an image to its annotations.

    Args:
        record: The image, with initial or final masks.
        annotated: Whether it has annotations.
        score: Predictions below it take no part.

    Returns:
        The matching; None where there are no annotated masks.
    """
    return match(record, score, boundaries=False) if annotated and record.masks else None


def evaluation_columns(state: ImageState, found: ImageMatch | None) -> dict[str, Any]:
    """The columns that compare an image with its annotations; none if it has none."""
    if not state.annotated:
        return {}
    row: dict[str, Any] = {"annotated": len(state.initial.truth)}
    if found is None:
        return row
    counts = found_in(found)
    return row | {name: counts[name] for name in EVALUATED if name in counts}


def write_crop_index(path: Path, states: Iterable[ImageState], label_names: Sequence[str]) -> None:
    """Write a row for each crop.

    Args:
        path: The CSV file.
        states: The images by number.
        label_names: Names of labels 1, 2, ...
    """
    write_csv(path, CROP_COLUMNS, (row for state in states for row in _crop_rows(state, label_names)))


def _crop_rows(state: ImageState, label_names: Sequence[str]) -> Iterator[dict[str, Any]]:
    record = state.final
    for crop in state.crops:
        position = crop["instance"] - 1
        entry = record.predictions[state.written[position]]
        yield {
            **crop,
            "image_id": record.image_id,
            "file_name": record.name,
            "label": label_names[entry.label - 1] if entry.label <= len(label_names) else entry.label,
            "score": round(entry.score, 4),
            "at_border": int(state.border[position]),
            "marks": "; ".join(sorted(state.review.marks[position])),
        }
