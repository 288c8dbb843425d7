"""Score one CRF setting after another on the same images; only refining, encoding and comparing are repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from kemr_lightning.core.contracts import MaskRefiner, Samples
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Sample
from kemr_lightning.metrics.average_precision import MAX_DETECTIONS, average_precision
from kemr_lightning.metrics.records import ImageRecord, record
from kemr_lightning.metrics.segmentation import instance_accuracy

SCORES = ("MaskAP", "AP50", "AP75", "IA")
"""Figures that refinement can change."""


@dataclass(frozen=True)
class Scored:
    """One image ready to be refined and scored.

    Attributes:
        image: ``(H, W)`` uint8.
        initial: The model's instances.
        record: The annotations and the initial instances, encoded.
    """

    image: Tensor
    initial: Instances
    record: ImageRecord

    def bytes(self) -> int:
        """Memory that the image and the patches take."""
        patches = self.initial.patches or []
        return self.image.nbytes + sum(patch.values.nbytes for patch in patches)


class ScoredImages:
    """The images of a data set in a random order, kept in memory as far as there is room.

    Args:
        samples: The data set.
        predict: Gives the initial instances of an image; called again for images that are not kept.
        seed: Seed of the order. It is random so that successive parts are alike and a trial can be pruned after one.
        memory_mb: MiB of images and instances that are kept.
        threshold: Minimum probability of a mask pixel, see `record`.
    """

    def __init__(
        self,
        samples: Samples,
        predict: Callable[[Sample], Instances],
        seed: int = 0,
        memory_mb: int = 1024,
        threshold: float = 0.5,
    ) -> None:
        self.samples = samples
        self.predict = predict
        self.threshold = threshold
        self.order = np.random.default_rng(seed).permutation(len(samples)).tolist()
        self._left = memory_mb * 2**20
        self._kept: dict[int, Scored] = {}

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> Scored:
        """The image at a position of the order.

        Raises:
            UserError: It has no masks to score against.
        """
        if position in self._kept:
            return self._kept[position]
        sample = self.samples[self.order[position]]
        if sample.instances is None or sample.instances.patches is None:
            raise UserError(f"{sample.name} has no masks to score against. Annotate outlines, not boxes")
        initial = self.predict(sample).to("cpu")
        item = record(initial, sample.instances, sample.image_id, sample.name, self.threshold)
        made = Scored(sample.image.cpu(), initial, item)
        if made.bytes() <= self._left:
            self._left -= made.bytes()
            self._kept[position] = made
        return made


def score_masks(
    records: Sequence[ImageRecord],
    ia_score: float = 0.5,
    ia_iou: float = 0.5,
    max_detections: int = MAX_DETECTIONS,
) -> dict[str, float]:
    """The figures named in `SCORES`, as `kemr_lightning.metrics.segmentation.headline` gives them.

    Args:
        records: The images, with unique ids.
        ia_score: Score threshold of Instance Accuracy.
        ia_iou: IoU threshold of Instance Accuracy.
        max_detections: Of each image and class so many detections count for AP.

    Returns:
        Name -> percent, NaN without annotations.
    """
    found = average_precision(records, masks=True, max_detections=max_detections)
    accuracy = instance_accuracy(records, ia_score, ia_iou)
    return {"MaskAP": found.at(), "AP50": found.at(0.5), "AP75": found.at(0.75), "IA": accuracy}


class Scorer:
    """Scores refiners on the same images.

    Args:
        images: The images.
        chunks: Number of parts, >= 1; there are fewer if there are fewer images.
        ia_score: Score threshold of Instance Accuracy.
        ia_iou: IoU threshold of Instance Accuracy.
        max_detections: See `score_masks`.
    """

    def __init__(
        self,
        images: ScoredImages,
        chunks: int = 4,
        ia_score: float = 0.5,
        ia_iou: float = 0.5,
        max_detections: int = MAX_DETECTIONS,
    ) -> None:
        self.images = images
        count = len(images)
        self.ends = sorted({-(-count * part // chunks) for part in range(1, chunks + 1)} - {0})
        """Number of images up to the end of each part."""
        self.ia_score = ia_score
        self.ia_iou = ia_iou
        self.max_detections = max_detections

    def initial(self) -> dict[str, float]:
        """The figures without refinement."""
        return self._score([self.images[i].record for i in range(len(self.images))])

    def _score(self, records: Sequence[ImageRecord]) -> dict[str, float]:
        return score_masks(records, self.ia_score, self.ia_iou, self.max_detections)

    @torch.no_grad()
    def parts(self, refiner: MaskRefiner) -> Iterator[dict[str, float]]:
        """Yield the figures of the images so far after each part; the last ones are those of all images.

        Args:
            refiner: Refines the initial masks.
        """
        records: list[ImageRecord] = []
        for end in self.ends:
            while len(records) < end:
                one = self.images[len(records)]
                refined = refiner(one.image, one.initial)
                nothing = Instances.empty(refined.image_size)
                found = record(refined, nothing, one.record.image_id, threshold=self.images.threshold)
                records.append(replace(one.record, predictions=found.predictions))
            yield self._score(records)

    def all(self, refiner: MaskRefiner) -> dict[str, float]:
        """The figures of all images.

        Args:
            refiner: Refines the initial masks.
        """
        return list(self.parts(refiner))[-1]
