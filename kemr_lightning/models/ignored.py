"""Regions of a training image where nothing is learned: what lies there is no background."""

from __future__ import annotations

import torch
from torch import Tensor

from kemr_lightning.core.instances import Instances

COVERED = 0.5
"""A box is left out if at least this fraction of it lies on ignored regions."""


def on_ignored(target: Instances, boxes: Tensor) -> Tensor:
    """Which boxes lie on the ignored regions of an image, of whatever class.

    Args:
        target: The annotations of the image.
        boxes: ``(N, 4)``; only what lies inside the image counts.

    Returns:
        ``(N,)`` bool, on the device of the boxes.
    """
    if target.ignored is None or not len(boxes):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    height, width = target.image_size
    covered = torch.zeros((height, width), dtype=torch.bool, device=boxes.device)
    for patch in target.ignored.patches or []:
        x0, y0, x1, y1 = patch.window
        covered[y0:y1, x0:x1] |= patch.binary().to(boxes.device)
    # The number of covered pixels above and to the left of each corner gives that in any box with four look-ups.
    sums = torch.zeros((height + 1, width + 1), dtype=torch.int64, device=boxes.device)
    sums[1:, 1:] = covered.to(torch.int64).cumsum(0).cumsum(1)
    limits = boxes.new_tensor([width, height, width, height])
    left, top, right, bottom = torch.minimum(boxes.detach().clamp(min=0), limits).round().to(torch.int64).unbind(1)
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    found: Tensor = inside >= COVERED * ((right - left) * (bottom - top)).clamp(min=1)
    return found
