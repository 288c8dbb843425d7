"""The one map between mask grids on boxes and the pixels of an image, in both directions.

A grid of ``M x M`` cells covers a region (a box with real-valued corners) exactly: cell ``(r, c)`` has its centre at
``x = x0 + (c + 0.5) / M * (x1 - x0)``, and ``y`` likewise. Pixel ``(i, j)`` has its centre at ``(j + 0.5, i + 0.5)``.
Both directions use these centres, so a mask that goes from pixels to a grid and back does not move. (Torchvision's
``project_masks_on_boxes`` and ``paste_masks_in_image`` are half a pixel off, which costs a tenth of the IoU on
chromosomes 12 px wide.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import clip_boxes_to_image, roi_align

from kemr_lightning.core.instances import Detections, Instances, Patch


def grow_boxes(boxes: Tensor, fraction: float, pixels: float = 0.0) -> Tensor:
    """Grow boxes around their centres.

    Args:
        boxes: ``(N, 4)`` boxes ``(x0, y0, x1, y1)``.
        fraction: Fraction of the width (height) added in total to the width (height).
        pixels: Added on each side on top of that.

    Returns:
        ``(N, 4)`` grown boxes, not clipped.
    """
    size = boxes[:, 2:] - boxes[:, :2]
    margin = size * (fraction / 2) + pixels
    return torch.cat([boxes[:, :2] - margin, boxes[:, 2:] + margin], dim=1)


def mask_targets(patches: Sequence[Patch], which: Tensor, regions: Tensor, size: int) -> Tensor:
    """Sample annotated masks on grids that cover regions: the targets of a mask head.

    Each cell's value is the fraction of it that the mask covers: the mean of the bilinearly interpolated mask over
    ``s x s`` points of the cell, with ``s`` such that points are at most a pixel apart (RoIAlign with ``aligned=True``,
    He et al. 2017).

    Args:
        patches: ``G`` masks, bool or float.
        which: ``(K,)`` int64, the position of each region's mask.
        regions: ``(K, 4)`` float, image pixels.
        size: ``M``, cells along a side.

    Returns:
        ``(K, M, M)`` float32 in [0, 1] on the regions' device. Threshold at 0.5 for binary targets.
    """
    if len(regions) == 0:
        return regions.new_zeros((0, size, size))
    # A rim of zeros, so that interpolation at a window's edge sees the background outside it.
    height = max(int(patch.values.shape[0]) for patch in patches) + 2
    width = max(int(patch.values.shape[1]) for patch in patches) + 2
    masks = torch.zeros((len(patches), 1, height, width), device=regions.device)
    for mask, patch in zip(masks, patches, strict=True):
        rows, columns = patch.values.shape
        mask[0, 1 : rows + 1, 1 : columns + 1] = patch.values
    origin = regions.new_tensor([[patch.x0 - 1, patch.y0 - 1] for patch in patches])[which].repeat(1, 2)
    rois = torch.cat([which[:, None].to(regions), regions - origin], dim=1)
    targets: Tensor = roi_align(masks, rois, (size, size), 1.0, -1, aligned=True)
    return targets[:, 0]


def _interpolation(start: float, end: float, points: int, origin: int, length: int) -> Tensor:
    """``(points, length)`` weights of linear interpolation at the centres of ``points`` equal parts of [start, end].

    They apply to ``length`` pixels that begin at ``origin``; positions outside take the nearest pixel.
    """
    step = (end - start) / points
    position = (start + (torch.arange(points) + 0.5) * step - origin - 0.5).clamp(0, length - 1)
    weights = 1 - (position[:, None] - torch.arange(length)).abs()
    return weights.clamp_(min=0)


def region_window(region: Sequence[float], image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The smallest window of pixels that contains a region, clipped to the image; at least one pixel.

    Args:
        region: ``(x0, y0, x1, y1)`` in pixels.
        image_size: ``(H, W)``.

    Returns:
        ``(x0, y0, x1, y1)`` whole pixels, x1 and y1 exclusive.
    """
    height, width = image_size
    x0 = min(max(math.floor(region[0]), 0), width - 1)
    y0 = min(max(math.floor(region[1]), 0), height - 1)
    x1 = max(min(math.ceil(region[2]), width), x0 + 1)
    y1 = max(min(math.ceil(region[3]), height), y0 + 1)
    return x0, y0, x1, y1


def paste_grid(grid: Tensor, region: Sequence[float], image_size: tuple[int, int]) -> Patch:
    """Interpolate a mask grid at the pixels of an image, bilinearly between cell centres.

    Args:
        grid: ``(M, M)`` probabilities.
        region: ``(x0, y0, x1, y1)`` that the grid covers, image pixels.
        image_size: ``(H, W)``.

    Returns:
        A float32 patch on `region_window`.
    """
    size = grid.shape[-1]
    x0, y0, x1, y1 = region_window(region, image_size)
    scale_x = size / max(region[2] - region[0], 1e-6)
    scale_y = size / max(region[3] - region[1], 1e-6)
    along_x = _interpolation((x0 - region[0]) * scale_x, (x1 - region[0]) * scale_x, x1 - x0, 0, size).to(grid)
    along_y = _interpolation((y0 - region[1]) * scale_y, (y1 - region[1]) * scale_y, y1 - y0, 0, size).to(grid)
    return Patch(x0, y0, along_y @ grid @ along_x.T)


def place_detections(detections: Detections, shown_size: tuple[int, int], image_size: tuple[int, int]) -> Instances:
    """Turn detections in the image that a detector saw into instances at the input file's size.

    Args:
        detections: The detector's output.
        shown_size: ``(H, W)`` of the image that the detector saw. Width and height are scaled separately, because each
            was rounded to whole pixels when the image was resized.
        image_size: ``(H, W)`` of the file.

    Returns:
        Instances whose patches cover the scaled regions; boxes are clipped to the image.
    """
    height, width = image_size
    scale = detections.boxes.new_tensor([width / shown_size[1], height / shown_size[0]]).repeat(2)
    boxes = clip_boxes_to_image(detections.boxes * scale, image_size)
    regions = (detections.regions * scale).tolist()
    patches = [paste_grid(grid, region, image_size) for grid, region in zip(detections.grids, regions, strict=True)]
    return Instances(image_size, boxes, detections.scores, detections.labels, patches, detections.disagreement)


def fitted_size(image_size: tuple[int, int], frame: Sequence[int] | None) -> tuple[int, int]:
    """The size of an image fitted into a frame. It keeps its aspect up to rounding; smaller images are enlarged.

    Args:
        image_size: ``(H, W)``.
        frame: ``(width, height)``, or None to keep the size.

    Returns:
        ``(H, W)``, at least 1 each.
    """
    if frame is None:
        return image_size
    height, width = image_size
    scale = min(frame[0] / width, frame[1] / height)
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an intensity image: bicubic (a = -0.5), antialiased if it shrinks. Training and prediction both use it.

    Args:
        image: ``(H, W)`` uint8.
        size: The new ``(H, W)``.

    Returns:
        ``(H, W)`` uint8, corner on corner with ``image``; the image itself if it already has that size.
    """
    if tuple(image.shape) == tuple(size):
        return image
    resized = F.interpolate(image[None, None].float(), size=size, mode="bicubic", antialias=True)[0, 0]
    return resized.round_().clamp_(0, 255).to(torch.uint8)


def patch_iou(one: Patch, other: Patch, threshold: float = 0.5) -> float:
    """IoU of two masks of one image, from the pixels that their windows share.

    Args:
        one: A mask.
        other: Another.
        threshold: Minimum probability of a mask pixel; ignored for bool masks.

    Returns:
        The IoU in [0, 1]; 0 for two empty masks.
    """
    ax0, ay0, ax1, ay1 = one.window
    bx0, by0, bx1, by1 = other.window
    x0, y0, x1, y1 = max(ax0, bx0), max(ay0, by0), min(ax1, bx1), min(ay1, by1)
    a, b = one.binary(threshold), other.binary(threshold)
    both = 0
    if x0 < x1 and y0 < y1:
        both = int((a[y0 - ay0 : y1 - ay0, x0 - ax0 : x1 - ax0] & b[y0 - by0 : y1 - by0, x0 - bx0 : x1 - bx0]).sum())
    either = int(a.sum()) + int(b.sum()) - both
    return both / either if either else 0.0
