"""States of Neural Knowledge DNA: what an instance and its surroundings are like, and what an action would change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kemr_lightning.core.instances import Instances
from kemr_lightning.refinement.surroundings import Surroundings, on_cpu

STATE_NAMES = (
    "log_area",  # log of the mask's pixels
    "elongation",  # log of length over width, from the mask's second moments
    "confidence",  # mean probability on the mask
    "rim_entropy",  # mean binary entropy of the probability where it is in (0.05, 0.95), in nats
    "rim_share",  # pixels with a probability in (0.05, 0.95), per pixel of the mask
    "contrast",  # |instance - background| in grey levels, / 64
    "homogeneity",  # standard deviation of the grey level on the mask, divided by the contrast
    "overlap",  # fraction of the mask that a neighbour claims, too
    "contact",  # neighbours' pixels within the crop, per pixel of the mask
    "disagreement",  # spread of the mask heads (0 for a model with one)
    "score",  # the detector's score
    "change",  # 1 - IoU of the mask before and after the action
)
CHANGE = STATE_NAMES.index("change")


def describe_states(crops: Sequence[Surroundings], instances: Instances) -> Tensor:
    """Describe all instances of an image; ``change`` is left at 0.

    Args:
        crops: From `surroundings`, one per instance.
        instances: The initial instances.

    Returns:
        ``(N, len(STATE_NAMES))`` float32, finite, columns as in `STATE_NAMES`. They are on the CPU:
        on a GPU, every instance would need several synchronisations.
    """
    scores = instances.scores.cpu()
    spread = None if instances.disagreement is None else instances.disagreement.cpu()
    rows = []
    for index, crop in enumerate(on_cpu(crops)):
        prob = crop.prob
        mask = prob >= 0.5
        area = mask.sum().clamp(min=1).float()
        unsure = (prob > 0.05) & (prob < 0.95)
        chance = prob.clamp(1e-6, 1 - 1e-6)
        entropy = -(chance * chance.log() + (1 - chance) * (1 - chance).log())
        contrast = (crop.foreground - crop.background).abs()
        grey = crop.intensity.float()
        mean = (grey * mask).sum() / area
        deviation = (((grey - mean) ** 2 * mask).sum() / area).sqrt()
        other = crop.neighbours >= 0.5
        rows.append(
            torch.stack(
                [
                    area.log(),
                    _elongation(mask),
                    (prob * mask).sum() / area,
                    (entropy * unsure).sum() / unsure.sum().clamp(min=1),
                    unsure.sum() / area,
                    contrast / 64,
                    (deviation / contrast.clamp(min=4)).clamp(max=4),
                    (mask & other).sum() / area,
                    (other.sum() / area).clamp(max=4),
                    prob.new_tensor(0.0) if spread is None else spread[index].to(prob),
                    scores[index].to(prob),
                    prob.new_tensor(0.0),
                ]
            )
        )
    return torch.stack(rows).float() if rows else torch.zeros(0, len(STATE_NAMES))


def _elongation(mask: Tensor) -> Tensor:
    """Log ratio of the axes of the ellipse with the mask's second moments; 0 for an empty mask."""
    rows, columns = torch.nonzero(mask, as_tuple=True)
    if len(rows) < 2:
        return torch.zeros((), device=mask.device)
    points = torch.stack([rows, columns]).float()
    # A pixel is a square with variance 1/12 along each axis; so a line of pixels is not infinitely elongated.
    moments = torch.cov(points, correction=0) + torch.eye(2, device=mask.device) / 12
    smallest, largest = torch.linalg.eigvalsh(moments)
    ratio: Tensor = largest / smallest.clamp(min=1e-6)
    return 0.5 * ratio.log()


def change(before: Tensor, after: Tensor) -> Tensor:
    """1 - IoU of two probability maps at 0.5; 0 if both are empty."""
    first, second = before >= 0.5, after >= 0.5
    union = (first | second).sum()
    return 1 - (first & second).sum() / union if union > 0 else torch.zeros((), device=before.device)
