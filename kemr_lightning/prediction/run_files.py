"""The files about all images of a prediction, made from the images' states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kemr_lightning.core.files import write_json
from kemr_lightning.core.run_directory import (
    CROP_INDEX,
    CROPS,
    IMAGES,
    PREDICTIONS,
    PREDICTIONS_INITIAL,
    REPORT,
    SUMMARY,
)
from kemr_lightning.metrics.matching import ImageMatch
from kemr_lightning.output.coco_results import results
from kemr_lightning.prediction.image_files import WriterOptions
from kemr_lightning.prediction.image_state import ImageState, StateFolder
from kemr_lightning.prediction.report import ReportImage, write_report
from kemr_lightning.prediction.summary import matched, write_crop_index, write_summary


@dataclass(frozen=True)
class Failure:
    """An image that could not be done.

    Attributes:
        name: As in `Input`.
        reason: One line.
    """

    name: str
    reason: str


def write_run_files(
    directory: Path,
    done: Sequence[tuple[str, ImageState]],
    failures: Sequence[Failure],
    label_names: Sequence[str],
    options: WriterOptions,
    title: str,
    states: StateFolder,
) -> None:
    """Write COCO results, tables and the report.

    Args:
        directory: The run directory.
        done: Stem and state of each finished image, by number.
        failures: The others.
        label_names: Names of labels 1, 2, ...
        options: Of the run.
        title: What the report is about, in a line.
        states: Where the pictures are.
    """
    finals = [state.final for _, state in done]
    write_json(directory / PREDICTIONS, results(finals))
    write_json(directory / PREDICTIONS_INITIAL, results([state.initial for _, state in done]))
    write_json(directory / IMAGES, [_image(state) for _, state in done], indent=1)
    matches = [_matches(state, options.score) for _, state in done]
    evaluated = any(state.annotated for _, state in done)
    pairs = ((state, found[1]) for (_, state), found in zip(done, matches, strict=True))
    write_summary(directory / SUMMARY, pairs, options.expected, evaluated)
    if options.crops:
        write_crop_index(directory / CROPS / CROP_INDEX, (state for _, state in done), label_names)
    images = [
        ReportImage(state, states.picture(stem), *found) for (stem, state), found in zip(done, matches, strict=True)
    ]
    unread = [(failure.name, failure.reason) for failure in failures]
    write_report(directory / REPORT, images, unread, label_names, options.expected, title)


def _matches(state: ImageState, score: float) -> tuple[ImageMatch | None, ImageMatch | None]:
    """Initial and final predictions against the annotations."""
    final = matched(state, score)
    return (final if state.refined is None else matched(state, score, initial=True)), final


def _image(state: ImageState) -> dict[str, Any]:
    height, width = state.initial.size
    entry: dict[str, Any] = {
        "id": state.initial.image_id,
        "file_name": state.initial.name,
        "width": width,
        "height": height,
    }
    name, page = state.source
    if name != state.initial.name:
        entry["source"] = name
    return entry if page is None else {**entry, "page": page}
