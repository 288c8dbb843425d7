"""COCO files of a run: what was predicted, what it was scored against, and the scores.

pycocotools on these files gives the figures in ``metrics.json``.
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


class CocoResultsWriter:
    """Writes a test's files into a run directory.

    Args:
        directory: The run directory; made if it is missing.
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
            initial: Images with the detector's own masks.
            refined: The same images with refined masks, or None without a refiner; then the initial ones are final.
            figures: ``initial`` and, with a refiner, ``refined``, each name -> percent.
            extended: Further figures by the same keys.
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
    """The per-class figures as table rows: every class with its ``initial``, then its ``refined`` masks.

    Args:
        extended: ``initial`` and, with a refiner, ``refined``, as
            `kemr_lightning.metrics.segmentation.extended_figures` gives them.
    """
    layers = {name: figures.get("per_class", {}) for name, figures in extended.items()}
    for label in dict.fromkeys(label for layer in layers.values() for label in layer):
        for masks, layer in layers.items():
            if label in layer:
                yield {"class": label, "masks": masks, **layer[label]}


def results(records: Sequence[ImageRecord]) -> list[dict[str, Any]]:
    """The predictions of image records in COCO's results format."""
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
    """The annotations of image records as a COCO data set."""
    highest = max((entry.label for item in records for entry in (*item.truth, *item.predictions)), default=0)
    names = dict(enumerate(label_names, 1))
    annotations: list[dict[str, Any]] = []
    for item in records:
        for entry in item.truth:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": item.image_id,
                    "category_id": entry.label,
                    "bbox": list(entry.box),
                    "area": entry.area,
                    "iscrowd": 0,
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
