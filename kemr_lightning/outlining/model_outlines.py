"""Outlines for annotated boxes, from a model's refined masks: those that agree with their boxes are kept."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torchvision.ops import box_iou

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.data.annotation import tight_patch
from kemr_lightning.outlining.box_outlines import BoxOutlines
from kemr_lightning.outlining.settings import OutlineSettings


def adopt_masks(
    found: BoxOutlines, predicted: Instances, settings: OutlineSettings | None = None
) -> list[Patch | None]:
    """Give boxes without a mask the predicted masks that agree with them.

    Boxes and predictions are assigned one to one, so that the sum of their IoUs is largest. A mask is adopted if the
    box around it overlaps the tightened box by `OutlineSettings.iou`, and `OutlineSettings.stained` of it is stained.

    Args:
        found: The boxes, tightened, with the masks that the image alone gives.
        predicted: With float or bool patches.
        settings: None for the defaults.

    Returns:
        A tight bool patch for each box, or None.
    """
    settings = settings or OutlineSettings()
    masks = list(found.masks)
    candidates = [
        tight
        for patch, score in zip(predicted.patches or [], predicted.scores.tolist(), strict=True)
        if score >= settings.score and (tight := tight_patch(patch.binary().numpy(), patch.x0, patch.y0)) is not None
    ]
    if not candidates or not masks:
        return masks
    around = torch.tensor([patch.window for patch in candidates], dtype=torch.float64)
    overlaps = box_iou(torch.from_numpy(found.boxes), around).nan_to_num(0.0).numpy()
    for index, candidate in zip(*linear_sum_assignment(-overlaps), strict=True):
        if masks[index] is None and overlaps[index, candidate] >= settings.iou:
            patch = candidates[candidate]
            x0, y0, x1, y1 = patch.window
            covered = found.stain[y0:y1, x0:x1][patch.values.numpy()]
            if covered.size and float(np.mean(covered)) >= settings.stained:
                masks[index] = patch
    return masks
