"""COCO's average precision of image records, evaluated by faster-coco-eval.

The figures equal pycocotools' (float64 thresholds 0.50:0.05:0.95, 101 recall points, crowds, and a maximum number of
detections per image and class).
Where pycocotools returns -1 because nothing is annotated, these functions return NaN.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from kemr_lightning.metrics.records import ImageRecord

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS = 100
"""COCO's maximum number of detections per image and class."""
ANY_AREA = (0.0, 1e10)

_quiet = logging.getLogger(__name__).debug


@dataclass(frozen=True)
class AveragePrecision:
    """Precision over IoU thresholds, recall points and classes.

    Attributes:
        labels: Classes that occur, annotated or predicted, ascending.
        precision: ``(10, 101, classes)`` float64 interpolated precision in [0, 1]; -1 for a class without annotations.
        recall: ``(10, classes)`` float64 highest recall in [0, 1]; -1 for a class without annotations.
    """

    labels: list[int]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def at(self, iou: float | None = None, label: int | None = None) -> float:
        """AP in percent, NaN if nothing is annotated.

        Args:
            iou: One of the ten thresholds, or None for their mean.
            label: One class, or None for the mean over annotated classes.

        Raises:
            ValueError: ``iou`` is not one of the thresholds, or ``label`` does not occur.
        """
        values = self.precision
        if iou is not None:
            values = values[np.isclose(IOU_THRESHOLDS, iou)]
            if not len(values):
                raise ValueError(f"{iou} is not one of the thresholds {IOU_THRESHOLDS.round(2).tolist()}")
        if label is not None:
            values = values[:, :, [self.labels.index(label)]]
        values = values[values > -1]
        return float(values.mean() * 100) if values.size else float("nan")

    def curve(self, iou: float) -> NDArray[np.float64]:
        """``(101,)`` interpolated precision at recalls 0, 0.01 ... 1, mean over annotated classes, in [0, 1]."""
        values = self.precision[np.isclose(IOU_THRESHOLDS, iou)][0]
        annotated = values[:, (values > -1).all(axis=0)]
        return annotated.mean(axis=1) if annotated.size else np.full(len(RECALL_POINTS), np.nan)


def average_precision(
    records: Sequence[ImageRecord],
    masks: bool,
    area_range: tuple[float, float] = ANY_AREA,
    max_detections: int = MAX_DETECTIONS,
) -> AveragePrecision:
    """Evaluate the records of a data set, one per image.

    Args:
        records: Every image of the set, those without instances included.
        masks: Compare masks, else boxes.
        area_range: Annotations whose `Entry.area` lies outside are ignored, and with them the predictions matched to
            them and unmatched predictions whose own area lies outside (COCO's area ranges).
        max_detections: Of each image and class so many detections count, those with the highest scores.

    Returns:
        The precision array.
    """
    records = sorted(records, key=lambda r: r.image_id)
    labels = sorted({entry.label for r in records for entry in (*r.truth, *r.predictions)})
    low, high = area_range
    annotated = {entry.label for r in records for entry in r.truth if low <= entry.area <= high}
    shape = (len(IOU_THRESHOLDS), len(RECALL_POINTS), len(labels))
    if not annotated or not any(r.predictions for r in records):
        # faster-coco-eval rejects empty sets. Without annotations there is no precision, without predictions it is 0.
        there = np.array([label in annotated for label in labels], dtype=bool)
        row = np.where(there, 0.0, -1.0)
        return AveragePrecision(labels, np.broadcast_to(row, shape).copy(), np.tile(row, (shape[0], 1)))
    evaluation = COCOeval_faster(
        COCO(coco_dataset(records, labels, "truth", masks), print_function=_quiet),
        COCO(coco_dataset(records, labels, "predictions", masks), print_function=_quiet),
        "segm" if masks else "bbox",
        print_function=_quiet,
        rle_iou_max_workers=1,
    )
    parameters = evaluation.params
    parameters.iouThrs, parameters.recThrs, parameters.maxDets = IOU_THRESHOLDS, RECALL_POINTS, [max_detections]
    parameters.areaRng, parameters.areaRngLbl = [[low, high]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"], dtype=np.float64).reshape(shape)
    recall = np.asarray(evaluation.eval["recall"], dtype=np.float64).reshape(shape[0], shape[2])
    return AveragePrecision(labels, precision, recall)


def coco_dataset(
    records: Sequence[ImageRecord], labels: Sequence[int], which: Literal["truth", "predictions"], masks: bool
) -> dict[str, Any]:
    """One side of the records as a COCO data set in memory, with ids from 1 in the order of the records.

    Args:
        records: The images.
        labels: The categories to declare; crowds of others are left out.
        which: Annotations, the crowds among them, or predictions.
        masks: Whether to include the masks.
    """
    annotations: list[dict[str, Any]] = []
    for item in records:
        crowds = [entry for entry in item.crowds if entry.label in labels] if which == "truth" else []
        for position, entry in enumerate([*(item.truth if which == "truth" else item.predictions), *crowds]):
            annotation = {
                "id": len(annotations) + 1,
                "image_id": item.image_id,
                "category_id": entry.label,
                "bbox": list(entry.box),
                "area": entry.area,
                "iscrowd": int(which == "truth" and position >= len(item.truth)),
                "score": entry.score,
            }
            if masks:
                annotation["segmentation"] = item.rle(entry)
            annotations.append(annotation)
    return {
        "images": [{"id": r.image_id, "height": r.size[0], "width": r.size[1]} for r in records],
        "annotations": annotations,
        "categories": [{"id": label, "name": str(label)} for label in labels],
    }
