"""What a refined mask is judged by while it is learned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mask_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """One minus the soft IoU, mean over masks, plus the mean binary cross-entropy over pixels.

    The first term is what is scored (Rahman & Wang 2016), the second keeps far-off pixels from drifting.

    Args:
        logits: ``(B, H, W)``.
        target: ``(B, H, W)`` 0 or 1.
        valid: ``(B, H, W)`` 1 on pixels that count.

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
    """What has to be added to a mask's logits for its soft area to be the annotation's.

    Annotators differ in how tight they draw (see `kemr_lightning.refinement.restraint`), which nothing in an image
    foretells. With the offset added, a loss is about the outline's shape alone.

    Args:
        logits: ``(B, H, W)``.
        target: ``(B, H, W)`` 0 or 1.
        valid: ``(B, H, W)`` 1 on pixels that count.

    Returns:
        ``(B, 1, 1)``, within +-4, without gradient.
    """
    wanted = target.sum(dim=(1, 2))
    low, high = torch.full_like(wanted, -4.0), torch.full_like(wanted, 4.0)
    for _ in range(12):
        middle = (low + high) / 2
        area = (torch.sigmoid(logits + middle[:, None, None]) * valid).sum(dim=(1, 2))
        low, high = torch.where(area < wanted, middle, low), torch.where(area < wanted, high, middle)
    return ((low + high) / 2)[:, None, None]
