"""The files of a tested run, read back into image records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.run_directory import GROUND_TRUTH, PREDICTIONS, PREDICTIONS_INITIAL
from kemr_lightning.metrics.records import Entry, ImageRecord


def read_records(directory: Path) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """What a run predicted and what that was scored against; the inverse of `CocoResultsWriter.write`.

    Args:
        directory: The run directory.

    Returns:
        The records of the initial and of the final instances, by image id.

    Raises:
        UserError: A file is missing, broken, or names an image that is not in the ground truth.
    """
    file = directory / GROUND_TRUTH
    truth = read_json(file)
    try:
        images = {int(image["id"]): image for image in truth["images"]}
        annotated: dict[int, list[Entry]] = {image_id: [] for image_id in images}
        for item in truth["annotations"]:
            annotated[int(item["image_id"])].append(_entry(item, 1.0, float(item["area"])))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is not a COCO data set ({error!r}). Test the model again (task=test)") from error
    initial, final = (
        [
            ImageRecord(
                image_id,
                (int(images[image_id]["height"]), int(images[image_id]["width"])),
                str(images[image_id].get("file_name", "")),
                annotated[image_id],
                found[image_id],
                all(entry.counts is not None for entry in annotated[image_id]),
            )
            for image_id in sorted(images)
        ]
        for found in (_predictions(directory / name, annotated) for name in (PREDICTIONS_INITIAL, PREDICTIONS))
    )
    return initial, final


def _predictions(file: Path, images: dict[int, list[Entry]]) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = {image_id: [] for image_id in images}
    try:
        for item in read_json(file):
            _, _, width, height = item["bbox"]
            found[int(item["image_id"])].append(_entry(item, float(item["score"]), width * height))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{file} does not hold COCO results for {GROUND_TRUTH} ({error!r}). Test the model again (task=test)"
        ) from error
    return found


def _entry(item: dict[str, Any], score: float, area: float) -> Entry:
    x, y, width, height = (float(value) for value in item["bbox"])
    segmentation = item.get("segmentation")
    counts = None if segmentation is None else str(segmentation["counts"])
    return Entry(int(item["category_id"]), (x, y, width, height), score, counts, area)


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: It is missing or broken.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{file} does not exist. Name the directory of a finished run, or test it (task=test)"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}). Test the model again (task=test)") from error
