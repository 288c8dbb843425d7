"""The loss that a refined mask is judged by while learning."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_OFFSET = 4.0
"""Largest absolute value of `area_offset`."""


def mask_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """One minus the soft IoU, averaged over masks, plus the binary cross-entropy, averaged over pixels.

    The first term is what masks are scored by (Rahman & Wang 2016); the second keeps distant pixels from drifting.

    Args:
        logits: ``(B, H, W)``.
        target: ``(B, H, W)``, 0 or 1.
        valid: ``(B, H, W)``, 1 on pixels that count, else 0.

    Returns:
        A scalar.
    """
    prob = torch.sigmoid(logits) * valid
    both = (prob * target).sum(dim=(1, 2))
    union = ((prob + target - prob * target) * valid).sum(dim=(1, 2)).clamp(min=1)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * valid
    return (1 - both / union).mean() + entropy.sum() / valid.sum().clamp(min=1)


@torch.no_grad()
def area_offset(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The offset that gives each mask the soft area of its annotation when added to the mask's logits.

    Some annotators draw tighter than others (see `kemr_lightning.refinement.restraint`), and nothing in an image shows
    which. With this offset added, a loss judges the shape of the outline alone.

    Args:
        logits: ``(B, H, W)``.
        target: ``(B, H, W)``, 0 or 1.
        valid: ``(B, H, W)``, 1 on pixels that count, else 0.

    Returns:
        ``(B, 1, 1)``, at most `MOST_OFFSET` in absolute value, without gradient.
    """
    wanted = target.sum(dim=(1, 2))
    low, high = torch.full_like(wanted, -MOST_OFFSET), torch.full_like(wanted, MOST_OFFSET)
    for _ in range(12):
        middle = (low + high) / 2
        area = (torch.sigmoid(logits + middle[:, None, None]) * valid).sum(dim=(1, 2))
        low, high = torch.where(area < wanted, middle, low), torch.where(area < wanted, high, middle)
    return ((low + high) / 2)[:, None, None]
