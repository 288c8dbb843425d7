"""The files about all images of a prediction, made from the images' states."""

from __future__ import annotations

from collections.abc import Sequence
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
from kemr_lightning.output.result_files import results
from kemr_lightning.prediction.image_state import ImageState, StateFolder
from kemr_lightning.prediction.report import ReportImage, write_report
from kemr_lightning.prediction.result import PredictionResult
from kemr_lightning.prediction.settings import PredictSettings
from kemr_lightning.prediction.summary import match_annotations, write_crop_index, write_summary


def write_run_files(
    directory: Path,
    result: PredictionResult,
    states: StateFolder,
    label_names: Sequence[str],
    settings: PredictSettings,
    title: str,
) -> None:
    """Write COCO results, tables and the report.

    Args:
        directory: The run directory.
        result: The images, by number.
        states: Where the images' pictures are.
        label_names: Names of labels 1, 2, ...
        settings: The prediction's settings.
        title: The report's title, one line.

    Raises:
        OSError: A file cannot be written.
    """
    all_states = [image.state for image in result.finished]
    write_json(directory / PREDICTIONS, results([state.final for state in all_states]))
    write_json(directory / PREDICTIONS_INITIAL, results([state.initial for state in all_states]))
    write_json(directory / IMAGES, [_image_entry(state) for state in all_states], indent=1)
    matches = [_matches(state, settings.score) for state in all_states]
    evaluated = any(state.annotated for state in all_states)
    pairs = ((state, final) for state, (_, final) in zip(all_states, matches, strict=True))
    write_summary(directory / SUMMARY, pairs, settings.expected, evaluated)
    if settings.crops:
        write_crop_index(directory / CROPS / CROP_INDEX, all_states, label_names)
    images = [
        ReportImage(image.state, states.picture(image.stem), *found)
        for image, found in zip(result.finished, matches, strict=True)
    ]
    write_report(directory / REPORT, images, result.failures, label_names, settings.expected, title)


def _matches(state: ImageState, score: float) -> tuple[ImageMatch | None, ImageMatch | None]:
    """The matching of an image's initial and of its final predictions to the annotations."""
    final = match_annotations(state.final, state.annotated, score)
    return (final if state.refined is None else match_annotations(state.initial, state.annotated, score)), final


def _image_entry(state: ImageState) -> dict[str, Any]:
    """An image as ``images.json`` has it."""
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
