"""Records of images for scoring and writing: annotated and predicted boxes, scores, labels and RLE.

Records are plain data. They travel between processes as lines of JSON, whose float text is exact for float64.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kemr_lightning.core import rle
from kemr_lightning.core.instances import Instances

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Entry:
    """One instance.

    Attributes:
        label: The class, from 1.
        box: ``(x, y, w, h)`` in pixels: the tight mask box of an annotation with a mask, else the instance's own box.
        score: The confidence, in [0, 1]; 1 for annotations.
        counts: The mask as compressed COCO RLE at the image's size, or None if there is only a box.
        area: Number of mask pixels of an annotation with a mask, else the area of the box.
    """

    label: int
    box: Box
    score: float
    counts: str | None
    area: float


@dataclass(frozen=True)
class ImageRecord:
    """One image: its annotations and its predictions.

    Attributes:
        image_id: The image's id, unique in its data set.
        size: ``(H, W)`` of the image file.
        name: The file's path relative to its data root; may be empty.
        truth: The annotations.
        predictions: The predictions, in the detector's order.
        masks: Whether the annotations have masks. Without them boxes alone are scored.
        crowds: Regions where predictions of their class count neither as right nor as wrong, as COCO's crowds.
    """

    image_id: int
    size: tuple[int, int]
    name: str = ""
    truth: list[Entry] = field(default_factory=list)
    predictions: list[Entry] = field(default_factory=list)
    masks: bool = True
    crowds: list[Entry] = field(default_factory=list)

    def rle(self, entry: Entry) -> rle.RLE:
        """The RLE of an entry of this image.

        Raises:
            ValueError: The entry has only a box.
        """
        if entry.counts is None:
            raise ValueError(f"an instance of image {self.image_id} has no mask")
        return rle.RLE(size=list(self.size), counts=entry.counts)

    def iou(self, masks: bool) -> NDArray[np.float64]:
        """``(predictions, annotations)`` IoU of masks, or of boxes.

        Args:
            masks: Compare masks, else boxes.

        Raises:
            ValueError: Masks are to be compared and an instance has none.
        """
        if masks:
            return rle.iou([self.rle(p) for p in self.predictions], [self.rle(t) for t in self.truth])
        return rle.box_iou([p.box for p in self.predictions], [t.box for t in self.truth])

    def on_crowds(self, masks: bool, iou: float = 0.5) -> NDArray[np.bool_]:
        """``(predictions,)``, whether at least a fraction ``iou`` of each lies on one crowd of its class.

        Args:
            masks: Measure masks, else boxes.
            iou: COCO compares this fraction with the threshold of the IoU.
        """
        if not self.crowds or not self.predictions:
            return np.zeros(len(self.predictions), dtype=bool)
        if masks:
            found = [self.rle(p) for p in self.predictions]
            areas = np.maximum([rle.area(code) for code in found], 1)[:, None]
            shared = rle.intersections(found, [self.rle(crowd) for crowd in self.crowds]) / areas
        else:
            shared = rle.box_iou([p.box for p in self.predictions], [c.box for c in self.crowds], of_first=True)
        same = np.array([p.label for p in self.predictions])[:, None] == np.array([c.label for c in self.crowds])
        on: NDArray[np.bool_] = (same & (shared >= iou)).any(axis=1)
        return on

    def to_json(self) -> str:
        """The record as one line of JSON."""
        return json.dumps(asdict(self), separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> ImageRecord:
        """The record of a line that `to_json` wrote."""
        return cls.from_document(json.loads(line))

    @classmethod
    def from_document(cls, content: Mapping[str, Any]) -> ImageRecord:
        """The record of plain values, as `to_json` or `dataclasses.asdict` make them."""
        entries = {
            key: [Entry(**{**entry, "box": tuple(entry["box"])}) for entry in content[key]]
            for key in ("truth", "predictions", "crowds")
            if key in content
        }
        return cls(**{**content, **entries, "size": tuple(content["size"])})


def record(
    predictions: Instances, truth: Instances, image_id: int, name: str = "", threshold: float = 0.5
) -> ImageRecord:
    """Encode the annotations and predictions of one image.

    Args:
        predictions: The instances found, at the image's size.
        truth: The annotations, at the image's size; ``patches=None`` marks annotations that have only boxes.
        image_id: The image's id, unique in its data set.
        name: The file's path relative to its data root.
        threshold: A predicted mask is ``probability >= threshold``.

    Returns:
        The record.

    Raises:
        ValueError: The two differ in image size, or the annotations have masks and the predictions do not.
    """
    if predictions.image_size != truth.image_size:
        raise ValueError(
            f"image {image_id}: predictions are for a size of {predictions.image_size}, not {truth.image_size}"
        )
    masks = truth.patches is not None
    if masks and predictions.patches is None and len(predictions) and (len(truth) or truth.ignored is not None):
        raise ValueError(f"image {image_id}: annotations have masks, predictions have boxes only")
    return ImageRecord(
        image_id=image_id,
        size=truth.image_size,
        name=name,
        truth=_entries(truth, threshold, tight=True),
        predictions=_entries(predictions, threshold, tight=False),
        masks=masks,
        crowds=_crowds(truth.ignored, masks),
    )


def _crowds(regions: Instances | None, masks: bool) -> list[Entry]:
    """Encode the crowds of an image; where boxes are scored, without their masks."""
    entries = [] if regions is None else _entries(regions, 0.5, tight=True)
    return entries if masks else [replace(entry, counts=None, area=entry.box[2] * entry.box[3]) for entry in entries]


def _entries(instances: Instances, threshold: float, tight: bool) -> list[Entry]:
    """Encode instances; ``tight`` gives those with masks the box and the area of their mask."""
    counts: Sequence[str | None] = [None] * len(instances)
    if instances.patches is not None:
        encoded = [rle.encode(patch, instances.image_size, threshold)["counts"] for patch in instances.patches]
        counts = [text.decode("ascii") if isinstance(text, bytes) else text for text in encoded]
    height, width = instances.image_size
    entries = []
    corners = instances.boxes.detach().double().cpu().tolist()
    scores, labels = instances.scores.detach().double().cpu().tolist(), instances.labels.cpu().tolist()
    for (x0, y0, x1, y1), score, label, text in zip(corners, scores, labels, counts, strict=True):
        box, area = (x0, y0, x1 - x0, y1 - y0), (x1 - x0) * (y1 - y0)
        if tight and text is not None:
            code = rle.RLE(size=[height, width], counts=text)
            x, y, w, h = rle.tight_box(code)
            box, area = (x, y, w, h), float(rle.area(code))
        entries.append(Entry(int(label), box, score, text, area))
    return entries
