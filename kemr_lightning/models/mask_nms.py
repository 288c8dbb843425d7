"""Suppression by mask IoU, for objects that cross: their boxes overlap wholly, their masks hardly."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import box_iou

from kemr_lightning.core.geometry import paste_grid
from kemr_lightning.core.instances import Detections, Patch


def patch_iou(one: Patch, other: Patch) -> float:
    """IoU of two bool masks of an image, from the pixels that their windows share; 0 for two empty masks."""
    ax0, ay0, ax1, ay1 = one.window
    bx0, by0, bx1, by1 = other.window
    x0, y0, x1, y1 = max(ax0, bx0), max(ay0, by0), min(ax1, bx1), min(ay1, by1)
    both = 0
    if x0 < x1 and y0 < y1:
        mine = one.values[y0 - ay0 : y1 - ay0, x0 - ax0 : x1 - ax0]
        both = int((mine & other.values[y0 - by0 : y1 - by0, x0 - bx0 : x1 - bx0]).sum())
    either = one.area() + other.area() - both
    return both / either if either else 0.0


def mask_nms(detections: Detections, image_size: tuple[int, int], threshold: float, level: float = 0.5) -> Tensor:
    """Greedy suppression by mask IoU within each class, on the pixels of the image that the detector saw.

    Only pairs of a class whose regions overlap are compared. A detection whose mask has no pixel suppresses nothing.

    Args:
        detections: Of one image; boxes, scores and masks on grids.
        image_size: ``(H, W)`` of that image.
        threshold: IoU above which the lower-scored of two is dropped.
        level: Probability from which a pixel belongs to a mask.

    Returns:
        ``(K,)`` int64 positions of those kept, by falling score.
    """
    order = detections.scores.argsort(descending=True, stable=True).tolist()
    # The comparisons are many small ones, which a GPU would not speed up.
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
