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
