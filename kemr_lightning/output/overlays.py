"""An image with its annotations and predictions as layers that W&B can show and hide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kemr_lightning.core.contracts import Prediction
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.metrics.matching import UNCOUNTED, ImageMatch, match, match_boxes
from kemr_lightning.metrics.records import record

KINDS = (
    *("matched", "mislabelled", "merged", "split", "missed"),
    *("merging", "splitting", "duplicate", "false"),
)
"""Kinds of annotations and predictions, see `kemr_lightning.metrics.matching`; uncounted ones are not shown."""

SEVERAL = len(KINDS) + 1
"""The number in a label map of pixels that belong to several masks."""

CLASSES = {number: "found" if kind == "matched" else kind for number, kind in enumerate(KINDS, 1)} | {
    SEVERAL: "in several masks"
}
"""Number in a label map -> its name in W&B; one numbering for annotations and predictions."""


def label_map(instances: Instances, kinds: Sequence[str], threshold: float = 0.5) -> NDArray[np.uint8]:
    """All masks of an image in one map of numbers, which W&B shows as colours.

    Args:
        instances: Instances with patches.
        kinds: The kind of each instance: one of `KINDS`; others are left out.
        threshold: Minimum probability of a mask pixel.

    Returns:
        ``(H, W)`` uint8: 0 outside all masks, `SEVERAL` where masks overlap, else the number of the mask's kind in
        `CLASSES`.
    """
    labels = np.zeros(instances.image_size, dtype=np.uint8)
    for patch, kind in zip(instances.patches or [], kinds, strict=True):
        if kind in UNCOUNTED:
            continue
        x0, y0, x1, y1 = patch.window
        window, mask = labels[y0:y1, x0:x1], patch.binary(threshold).cpu().numpy()
        window[mask] = np.where(window[mask] > 0, SEVERAL, KINDS.index(kind) + 1)
    return labels


def layered_image(
    sample: Sample, prediction: Prediction, score: float = 0.5, iou: float = 0.5, threshold: float = 0.5
) -> Any:
    """An image for W&B, with masks and boxes that can be shown and hidden by layer and by kind.

    Args:
        sample: The image and its annotations, if it has any.
        prediction: What was found in it.
        score: Predictions below this score are left out.
        iou: Minimum IoU of a prediction with its annotation.
        threshold: Minimum probability of a mask pixel.

    Returns:
        A ``wandb.Image``. Mask layers: ``ground truth``, ``initial``, ``refined``; box layers: ``ground truth``,
        ``predicted``. The kinds of the annotations are those that result from the final masks.
    """
    import wandb  # late: only runs that log to W&B wait for it

    found = dict(prediction.layers())
    matches = {name: _match(sample, instances, score, iou, threshold) for name, instances in found.items()}
    final = matches[list(matches)[-1]]
    masks = {
        name: label_map(instances, matches[name].predictions, threshold)
        for name, instances in found.items()
        if instances.patches is not None
    }
    boxes = {"predicted": _boxes(found[list(found)[-1]], final.predictions)}
    truth = sample.instances
    if truth is not None:
        boxes["ground truth"] = _boxes(truth, final.truth)
        if truth.patches is not None:
            masks = {"ground truth": label_map(truth, final.truth, threshold), **masks}
    return wandb.Image(
        sample.image.cpu().numpy(),
        caption=sample.name,
        masks={name: {"mask_data": labels, "class_labels": CLASSES} for name, labels in masks.items()},
        boxes={name: {"box_data": data, "class_labels": CLASSES} for name, data in boxes.items()},
    )


def _match(sample: Sample, found: Instances, score: float, iou: float, threshold: float) -> ImageMatch:
    """The matching of an image's predictions; without annotations all that reach the score count as matched."""
    if sample.instances is None:
        kinds = ["matched" if each >= score else "unsure" for each in found.scores.tolist()]
        return ImageMatch([], [], kinds, [])  # type: ignore[arg-type]
    item = record(found, sample.instances, sample.image_id, threshold=threshold)
    return match(item, score, iou, boundaries=False) if item.masks else match_boxes(item, score, iou)


def _boxes(instances: Instances, kinds: Sequence[str]) -> list[dict[str, Any]]:
    """The boxes of instances in W&B's format, without those that do not count."""
    rows = zip(instances.boxes.tolist(), instances.scores.tolist(), instances.labels.tolist(), kinds, strict=True)
    return [
        {
            "position": {"minX": x0, "minY": y0, "maxX": x1, "maxY": y1},
            "domain": "pixel",
            "class_id": KINDS.index(kind) + 1,
            "box_caption": f"{label}: {CLASSES[KINDS.index(kind) + 1]}, {score:.2f}",
            "scores": {"score": score},
        }
        for (x0, y0, x1, y1), score, label, kind in rows
        if kind not in UNCOUNTED
    ]
