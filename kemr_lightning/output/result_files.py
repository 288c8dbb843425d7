"""The files of a test: predictions and annotations in COCO's formats, and the figures.

pycocotools computes the figures of ``metrics.json`` from these files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kemr_lightning.core.files import write_csv, write_json
from kemr_lightning.core.run_directory import (
    EXTENDED,
    GROUND_TRUTH,
    METRICS,
    PER_CLASS,
    PREDICTIONS,
    PREDICTIONS_INITIAL,
)
from kemr_lightning.metrics.records import Entry, ImageRecord

CLASS_COLUMNS = ("class", "masks", "annotated", "predicted", "BoxAP", "MaskAP", "AP50", "AP75", "IA")


class ResultFilesWriter:
    """Writes a test's files into a run directory.

    Args:
        directory: The run directory; it is created if it does not exist.
        label_names: Names of labels 1, 2, ...; labels without a name are named by their number.
    """

    def __init__(self, directory: Path, label_names: Sequence[str] = ()) -> None:
        self.directory = directory
        self.label_names = list(label_names)

    def write(
        self,
        initial: Sequence[ImageRecord],
        refined: Sequence[ImageRecord] | None,
        figures: Mapping[str, Mapping[str, float]],
        extended: Mapping[str, Any] | None = None,
    ) -> None:
        """Write all files of a test.

        Args:
            initial: The images with the detector's own masks.
            refined: The same images with refined masks; None without a refiner, when the initial masks are final.
            figures: ``initial`` and, with a refiner, ``refined``: name -> figure, those of the metric.
            extended: Further figures, by the same keys.
        """
        final = initial if refined is None else refined
        write_json(self.directory / PREDICTIONS_INITIAL, results(initial))
        write_json(self.directory / PREDICTIONS, results(final))
        write_json(self.directory / GROUND_TRUTH, ground_truth(initial, self.label_names))
        if extended is not None:
            write_json(self.directory / EXTENDED, extended)
            rows = list(class_rows(extended))
            if len({row["class"] for row in rows}) > 1:
                write_csv(self.directory / PER_CLASS, CLASS_COLUMNS, rows)
        counts = {"images": len(initial), "instances": sum(len(item.truth) for item in initial)}
        write_json(self.directory / METRICS, {**counts, **{k: dict(v) for k, v in figures.items()}}, indent=2)


def class_rows(extended: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The figures of each class as rows of a table: a row for its ``initial`` and one for its ``refined`` masks.

    Args:
        extended: ``initial`` and, with a refiner, ``refined``: figures from
            `kemr_lightning.metrics.segmentation.extended_figures`.

    Yields:
        Column -> value, see `CLASS_COLUMNS`.
    """
    layers = {name: figures.get("per_class", {}) for name, figures in extended.items()}
    for label in dict.fromkeys(label for layer in layers.values() for label in layer):
        for masks, layer in layers.items():
            if label in layer:
                yield {"class": label, "masks": masks, **layer[label]}


def results(records: Sequence[ImageRecord]) -> list[dict[str, Any]]:
    """The predictions of images in COCO's results format, in their order."""
    return [
        {
            "image_id": item.image_id,
            "category_id": entry.label,
            "bbox": list(entry.box),
            "score": entry.score,
            **_segmentation(item, entry),
        }
        for item in records
        for entry in item.predictions
    ]


def ground_truth(records: Sequence[ImageRecord], label_names: Sequence[str] = ()) -> dict[str, Any]:
    """The annotations of images, and the crowds that they were scored with, as a COCO data set.

    Args:
        records: The images.
        label_names: Names of labels 1, 2, ...; labels without a name are named by their number.
    """
    highest = max(
        (entry.label for item in records for entry in (*item.truth, *item.crowds, *item.predictions)), default=0
    )
    names = dict(enumerate(label_names, 1))
    annotations: list[dict[str, Any]] = []
    for item in records:
        for position, entry in enumerate([*item.truth, *item.crowds]):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": item.image_id,
                    "category_id": entry.label,
                    "bbox": list(entry.box),
                    "area": entry.area,
                    "iscrowd": int(position >= len(item.truth)),
                    **_segmentation(item, entry),
                }
            )
    return {
        "info": {"description": "annotations as they were scored, rasterised at the size of the image file"},
        "images": [
            {"id": item.image_id, "file_name": item.name, "width": item.size[1], "height": item.size[0]}
            for item in records
        ],
        "annotations": annotations,
        "categories": [
            {"id": label, "name": names.get(label, str(label))} for label in range(1, max(highest, len(names)) + 1)
        ],
    }


def _segmentation(item: ImageRecord, entry: Entry) -> dict[str, Any]:
    if entry.counts is None:
        return {}
    return {"segmentation": {"size": list(item.size), "counts": entry.counts}}
