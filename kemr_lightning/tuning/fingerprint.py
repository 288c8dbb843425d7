"""The fingerprint of a study: trials are comparable only if it is the same."""

from __future__ import annotations

import hashlib

from kemr_lightning.metrics.average_precision import MAX_DETECTIONS
from kemr_lightning.refinement.refiner import Refiner
from kemr_lightning.tuning.scoring import Scorer


def fingerprint(model: str, scorer: Scorer, refiner: Refiner) -> str:
    """Digest of all that a trial's value depends on besides its parameters: model, images, annotations, settings.

    Args:
        model: Digest of what predicts the initial masks.
        scorer: Its images, their order, its parts and its thresholds count.
        refiner: Its engine, margin and tolerance count.

    Returns:
        16 hexadecimal digits.
    """
    images = scorer.images
    thresholds: tuple[float, ...] = (images.threshold, scorer.ia_score, scorer.ia_iou)
    if scorer.max_detections != MAX_DETECTIONS:  # studies of earlier versions know no other
        thresholds = (*thresholds, scorer.max_detections)
    settings = (thresholds, refiner.engine, refiner.margin, refiner.tolerance, scorer.ends, images.order)
    digest = hashlib.sha256(f"{model} {settings}".encode())
    for position in range(len(images)):
        digest.update(images[position].image.numpy().tobytes())
        record = images[position].record
        digest.update(repr(record.truth).encode())
        digest.update(repr(record.crowds).encode() if record.crowds else b"")
    return digest.hexdigest()[:16]
