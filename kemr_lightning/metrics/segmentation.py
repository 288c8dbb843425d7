"""The metric: COCO's AP of boxes and masks and Instance Accuracy, for initial and refined instances alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Instances
from kemr_lightning.metrics.average_precision import (
    IOU_THRESHOLDS,
    MAX_DETECTIONS,
    AveragePrecision,
    average_precision,
)
from kemr_lightning.metrics.overlap import average_precision_by_overlap
from kemr_lightning.metrics.records import Entry, ImageRecord, record

HEADLINE = ("BoxAP", "MaskAP", "AP50", "AP75", "IA")
"""The headline figures, in the order of tables."""


class InstanceSegmentationMetric(Metric):
    """BoxAP, MaskAP, AP50, AP75 and IA of a data set, in percent.

    AP is COCO's and equals pycocotools'. AP50, AP75 and IA are of masks. Where the annotations have only boxes, AP50,
    AP75 and IA are of boxes and MaskAP is NaN. Without any annotation every figure is NaN; with annotations and no
    prediction every figure is 0. With several classes AP is the mean over the annotated ones.

    Instance Accuracy is N'/N over the data set: N annotated instances, N' of them found by predictions with
    ``score >= ia_score``. In descending order of score, each prediction takes the free annotation of its class and
    image with the highest IoU, if that is ``>= ia_iou``. It has no maximum number of detections.

    Images are identified by their id, so an image seen twice (the padding of a distributed sampler) counts once.

    It is an `InstanceMetric`, whose docstring shows how to add figures to it.

    Args:
        ia_score: Score threshold of IA, in [0, 1].
        ia_iou: IoU threshold of IA, in (0, 1].
        threshold: A predicted mask is ``probability >= threshold``, in (0, 1].
        max_detections: Of each image and class so many detections count for AP, those with the highest scores; COCO's
            rule is 100.
        kwargs: Options of `torchmetrics.Metric`.

    Raises:
        SettingError: A value is out of its range.
    """

    full_state_update: bool = False
    is_differentiable: bool = False
    higher_is_better: bool = True
    lines: list[Tensor] | Tensor

    def __init__(
        self,
        ia_score: float = 0.5,
        ia_iou: float = 0.5,
        threshold: float = 0.5,
        max_detections: int = MAX_DETECTIONS,
        **kwargs: Any,
    ) -> None:
        _check("ia_score", ia_score, zero=True)
        _check("ia_iou", ia_iou)
        _check("threshold", threshold)
        if not isinstance(max_detections, int) or isinstance(max_detections, bool) or max_detections < 1:
            raise SettingError("max_detections", max_detections, "is not a number of detections", "Give 1 or more")
        super().__init__(**kwargs)
        self.ia_score = ia_score
        self.ia_iou = ia_iou
        self.threshold = threshold
        self.max_detections = max_detections
        # One record per line, as UTF-8 bytes, so that processes are synchronised by concatenating their bytes.
        self.add_state("lines", default=[], dist_reduce_fx="cat")

    def update(
        self,
        predictions: Sequence[Instances],
        targets: Sequence[Instances],
        image_ids: Sequence[int],
        names: Sequence[str] | None = None,
    ) -> None:
        """Add the images of a batch.

        Args:
            predictions: The instances found in each image, at the size of its file.
            targets: The annotations of each image, at the same size.
            image_ids: Ids, unique in the data set.
            names: The images' file names, for the files written later.

        Raises:
            ValueError: The lists differ in length, or an image's predictions and annotations do not fit each other.
        """
        names = [""] * len(image_ids) if names is None else names
        for prediction, target, image_id, name in zip(predictions, targets, image_ids, names, strict=True):
            self.add(record(prediction, target, image_id, name, self.threshold))

    def add(self, item: ImageRecord) -> None:
        """Add one image that is already encoded."""
        line = (item.to_json() + "\n").encode()
        held = self.lines if isinstance(self.lines, list) else [self.lines]
        held.append(torch.frombuffer(bytearray(line), dtype=torch.uint8).to(self.device))
        self.lines = held
        self._computed = None

    def records(self) -> list[ImageRecord]:
        """One record per image, ordered by id.

        They are this process's images; in `compute` and elsewhere inside `sync_context`, those of all processes.
        """
        if not len(self.lines):
            return []
        text = bytes(dim_zero_cat(self.lines).to(torch.uint8).cpu().numpy()).decode()
        found = {item.image_id: item for item in map(ImageRecord.from_json, text.splitlines())}
        return [found[image_id] for image_id in sorted(found)]

    def gathered(self) -> list[ImageRecord]:
        """One record per image of all processes, ordered by id. Every process must call it."""
        with self.sync_context(should_sync=not self._is_synced, should_unsync=not self._is_synced):
            return self.records()

    def compute(self) -> dict[str, Tensor]:
        """The figures named in `HEADLINE`, float64 scalars in percent."""
        figures = headline(self.records(), self.ia_score, self.ia_iou, self.max_detections)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()}

    def _sync_dist(
        self, dist_sync_fn: Callable[..., Any] = gather_all_tensors, process_group: Any | None = None
    ) -> None:
        if not len(self.lines):
            # Processes without an image must send bytes too, not the float of torchmetrics' own placeholder.
            self.lines = [torch.zeros(0, dtype=torch.uint8, device=self.device)]
        super()._sync_dist(dist_sync_fn, process_group)


def _check(setting: str, value: object, zero: bool = False) -> None:
    """Refuse a threshold outside [0, 1], or 0 itself unless ``zero`` allows it."""
    if not isinstance(value, int | float) or not 0 <= value <= 1 or (value == 0 and not zero):
        bounds = "between 0 and 1" if zero else "above 0 and at most 1"
        raise SettingError(setting, value, f"is not a number {bounds}", "Choose one, such as 0.5")


def have_masks(records: Sequence[ImageRecord]) -> bool:
    """Whether masks are scored: all annotations have them."""
    return all(item.masks for item in records if item.truth)


def headline(
    records: Sequence[ImageRecord],
    ia_score: float = 0.5,
    ia_iou: float = 0.5,
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, float]:
    """The figures named in `HEADLINE`, in percent.

    Args:
        records: All images of the data set, with unique ids.
        ia_score: Score threshold of IA.
        ia_iou: IoU threshold of IA.
        max_detections: See `InstanceSegmentationMetric`.
    """
    masks = have_masks(records)
    boxes = average_precision(records, masks=False, max_detections=max_detections)
    main = average_precision(records, masks=True, max_detections=max_detections) if masks else boxes
    return {
        "BoxAP": boxes.at(),
        "MaskAP": main.at() if masks else float("nan"),
        "AP50": main.at(0.5),
        "AP75": main.at(0.75),
        "IA": instance_accuracy(records, ia_score, ia_iou, masks),
    }


def extended_figures(
    records: Sequence[ImageRecord],
    ia_score: float = 0.5,
    ia_iou: float = 0.5,
    label_names: Sequence[str] = (),
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, Any]:
    """Figures beyond the headline ones, as plain values for JSON, in percent; NaN where they do not exist.

    Args:
        records: All images of the data set, with unique ids.
        ia_score: Score threshold of IA.
        ia_iou: IoU threshold of IA.
        label_names: Names of labels 1, 2, ...; labels without a name are named by their number.
        max_detections: See `InstanceSegmentationMetric`.

    Returns:
        - ``thresholds``: those of IA;
        - ``box`` and, with masks, ``mask``: each with ``AP``, ``AP50`` ... ``AP95``, ``AR100`` (named for
          ``max_detections``) and ``curves`` (IoU -> 101 interpolated precisions in [0, 1] at recalls 0 ... 1);
        - with masks ``overlapped`` and ``isolated``: each with ``AP``, ``AP50`` ... ``AP95``, see
          `average_precision_by_overlap`;
        - ``per_class``: see `class_figures`;
        - ``count``: the mean absolute and the mean signed difference per image between the number of predictions
          that reach ``ia_score``, without those on crowds, and the number of annotations.
    """
    masks = have_masks(records)
    found: dict[str, Any] = {"thresholds": {"ia_score": ia_score, "ia_iou": ia_iou}}
    precisions = {"box": average_precision(records, False, max_detections=max_detections)}
    if masks:
        precisions["mask"] = average_precision(records, True, max_detections=max_detections)
    found |= {name: _details(precision, max_detections) for name, precision in precisions.items()}
    if masks:
        by_overlap = average_precision_by_overlap(records, max_detections)
        found |= {name: _levels(precision) for name, precision in by_overlap.items()}
    found["per_class"] = class_figures(records, precisions, ia_score, ia_iou, label_names)
    differences = [len(counted(item, masks, ia_score, ia_iou)) - len(item.truth) for item in records]
    found["count"] = {
        "mean_absolute_difference": float(np.abs(differences).mean()) if differences else float("nan"),
        "mean_difference": float(np.mean(differences)) if differences else float("nan"),
    }
    return found


def class_figures(
    records: Sequence[ImageRecord],
    precisions: Mapping[str, AveragePrecision],
    ia_score: float = 0.5,
    ia_iou: float = 0.5,
    label_names: Sequence[str] = (),
) -> dict[str, dict[str, float]]:
    """The figures of each class. Except for IA, their means over the annotated classes are the headline figures.

    Args:
        records: All images of the data set, with unique ids.
        precisions: Precision of the same records: ``box`` and, where masks are scored, ``mask``.
        ia_score: Score threshold of IA, and of what counts as predicted.
        ia_iou: IoU threshold of IA.
        label_names: Names of labels 1, 2, ...; labels without a name are named by their number.

    Returns:
        Class name -> ``annotated`` and ``predicted`` (numbers of instances), ``BoxAP``, ``MaskAP``, ``AP50``, ``AP75``
        and ``IA`` in percent, NaN for classes without annotations. Classes are in the order of their labels; those
        without any instance are left out.
    """
    masks = "mask" in precisions
    main = precisions["mask" if masks else "box"]
    annotated = Counter(entry.label for item in records for entry in item.truth)
    predicted = Counter(entry.label for item in records for entry in counted(item, masks, ia_score, ia_iou))
    hits = Counter(
        item.truth[annotation].label
        for item in records
        if item.truth
        for _, annotation in greedy_pairs(item, item.iou(masks), ia_score, ia_iou)
    )
    nan = float("nan")
    return {
        label_names[label - 1] if label <= len(label_names) else str(label): {
            "annotated": annotated[label],
            "predicted": predicted[label],
            "BoxAP": precisions["box"].at(label=label),
            "MaskAP": main.at(label=label) if masks else nan,
            "AP50": main.at(0.5, label),
            "AP75": main.at(0.75, label),
            "IA": 100 * hits[label] / annotated[label] if annotated[label] else nan,
        }
        for label in main.labels
    }


def _details(precision: AveragePrecision, max_detections: int) -> dict[str, Any]:
    """AP at all IoU thresholds, AR and the curves; see `extended_figures`."""
    annotated = precision.recall[precision.recall > -1]
    return {
        **_levels(precision),
        f"AR{max_detections}": float(annotated.mean() * 100) if annotated.size else float("nan"),
        "curves": {f"{iou:.2f}": precision.curve(iou).tolist() for iou in IOU_THRESHOLDS.tolist()},
    }


def _levels(precision: AveragePrecision) -> dict[str, float]:
    """AP, and AP at each IoU threshold."""
    return {
        "AP": precision.at(),
        **{f"AP{round(iou * 100)}": precision.at(iou) for iou in IOU_THRESHOLDS.tolist()},
    }


def instance_accuracy(
    records: Sequence[ImageRecord], score: float = 0.5, iou: float = 0.5, masks: bool = True
) -> float:
    """Instance Accuracy in percent, NaN without annotations; see `InstanceSegmentationMetric`.

    Args:
        records: All images of the data set.
        score: Predictions below this score are ignored.
        iou: Minimum IoU of a prediction with its annotation.
        masks: Compare masks, else boxes.
    """
    count = sum(len(item.truth) for item in records)
    found = sum(len(greedy_pairs(item, item.iou(masks), score, iou)) for item in records if item.truth)
    return 100 * found / count if count else float("nan")


def counted(item: ImageRecord, masks: bool, score: float = 0.5, iou: float = 0.5) -> list[Entry]:
    """The predictions of an image that count as found: those on crowds do not, unless they are matched.

    Args:
        item: An image.
        masks: Compare masks, else boxes.
        score: Predictions below this score do not count.
        iou: Minimum IoU of a pair, and part of a prediction that lies on a crowd.
    """
    left_out = item.on_crowds(masks, iou)
    if left_out.any() and item.truth:
        left_out[[prediction for prediction, _ in greedy_pairs(item, item.iou(masks), score, iou)]] = False
    return [p for p, out in zip(item.predictions, left_out, strict=True) if p.score >= score and not out]


def greedy_pairs(
    item: ImageRecord, overlaps: NDArray[np.float64], score: float = 0.5, iou: float = 0.5
) -> list[tuple[int, int]]:
    """Match predictions to annotations greedily by score.

    Args:
        item: An image.
        overlaps: ``(predictions, annotations)`` IoU.
        score: Predictions below this score are ignored.
        iou: Minimum IoU of a pair.

    Returns:
        ``(prediction, annotation)`` positions. From the highest score down (ties in their given order), each
        prediction takes the free annotation of its class with the highest IoU.
    """
    same = np.array([p.label for p in item.predictions])[:, None] == np.array([t.label for t in item.truth])[None]
    left = np.where(same, overlaps, -1.0) if overlaps.size else overlaps
    pairs = []
    for index in np.argsort([-p.score for p in item.predictions], kind="stable").tolist():
        if item.predictions[index].score < score or not left.shape[1]:
            break
        best = int(left[index].argmax())
        if left[index, best] >= iou:
            pairs.append((index, best))
            left[:, best] = -1.0
    return pairs
