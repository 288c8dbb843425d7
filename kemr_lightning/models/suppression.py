"""Non-maximum suppression by boxes or by masks.

Objects that cross may have almost the same box, so that suppression by boxes drops one of them. Their masks hardly
overlap, so that suppression by masks keeps both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.geometry import paste_grid, patch_iou
from kemr_lightning.core.instances import Detections, Patch

KINDS = ("box", "mask")
CANDIDATES = 2
"""With suppression by masks, how many candidates get masks, as a multiple of the maximum number of detections."""


def mask_nms(detections: Detections, image_size: tuple[int, int], threshold: float, level: float = 0.5) -> Tensor:
    """Greedy suppression by mask IoU within each class, on the pixels of the image that the detector saw.

    Only detections of one class whose regions overlap are compared. A detection with an empty mask suppresses nothing.

    Args:
        detections: The detections of one image, with masks on grids.
        image_size: ``(H, W)`` of that image.
        threshold: IoU above which the lower-scored of two is dropped.
        level: Minimum probability of a mask pixel.

    Returns:
        ``(K,)`` int64 positions of those kept, in descending order of score.
    """
    order = detections.scores.argsort(descending=True, stable=True).tolist()
    # Many small comparisons, which a GPU would not speed up.
    grids, regions = detections.grids.float().cpu(), detections.regions.cpu()
    patches = [
        Patch(patch.x0, patch.y0, patch.binary(level))
        for patch in (
            paste_grid(grid, region, image_size) for grid, region in zip(grids, regions.tolist(), strict=True)
        )
    ]
    near = (box_iou(regions, regions) > 0) & (detections.labels[:, None] == detections.labels[None]).cpu()
    kept: list[int] = []
    for index in order:
        rivals = (other for other in kept if near[index, other])
        if all(patch_iou(patches[index], patches[other]) <= threshold for other in rivals):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64, device=detections.boxes.device)


@dataclass(frozen=True)
class Suppression:
    """Which of a detector's candidates become detections.

    Attributes:
        score_threshold: Candidates whose score is not above it are dropped.
        nms: Whose IoU decides: ``"box"`` or ``"mask"``.
        nms_threshold: IoU above which the lower-scored of two candidates of a class is dropped.
        loose_threshold: With ``nms="mask"``, box IoU above which the lower-scored of two candidates is dropped before
            any mask is predicted, which bounds the work.
        detections: Maximum number of detections per image.

    Raises:
        SettingError: Unknown ``nms``.
    """

    score_threshold: float = 0.05
    nms: str = "box"
    nms_threshold: float = 0.5
    loose_threshold: float = 0.85
    detections: int = 100

    def __post_init__(self) -> None:
        if self.nms not in KINDS:
            raise SettingError("nms", self.nms, "is not a kind of suppression", f"Choose {' or '.join(KINDS)}")

    def by_boxes(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Choose the boxes of one image that get masks.

        Args:
            boxes: ``(N, 4)``.
            scores: ``(N,)``.
            labels: ``(N,)`` int64.

        Returns:
            ``(K,)`` int64 positions in descending order of score: with ``nms="box"`` the detections, else the
            candidates for `by_masks`.
        """
        boxwise = self.nms == "box"
        kept = batched_nms(boxes, scores, labels, self.nms_threshold if boxwise else self.loose_threshold)
        limited: Tensor = kept[: self.detections if boxwise else CANDIDATES * self.detections]
        return limited

    def by_masks(self, found: Detections, image_size: tuple[int, int]) -> Detections:
        """Choose the detections of one image among those that have masks.

        Args:
            found: What `by_boxes` chose, with masks.
            image_size: ``(H, W)`` of the image, before padding.

        Returns:
            With ``nms="box"`` all of them; with ``nms="mask"`` at most ``detections``, in descending order of
            score.
        """
        if self.nms == "box":
            return found
        return found.select(mask_nms(found, image_size, self.nms_threshold)[: self.detections])
