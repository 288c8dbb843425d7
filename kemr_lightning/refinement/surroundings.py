"""What lies around each instance of an image: crops with the neighbours' masks and the local contrast.

The evidence network and the states of Neural Knowledge DNA use it. Intensity is relative to the instance itself (its
own grey level against the background beside it), so that bright-on-dark and dark-on-bright stains look alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kemr_lightning.core.instances import Instances
from kemr_lightning.refinement.crops import moved
from kemr_lightning.refinement.unary import clipped_logit

NEIGHBOUR_SCORE = 0.5
"""Instances below this score do not count as neighbours: most are second detections of the same chromosome."""

MIN_CONTRAST = 4.0
"""Grey levels; a weaker contrast between instance and background is taken for noise and is not amplified."""

Window = tuple[int, int, int, int]
"""``(x0, y0, x1, y1)`` in pixels of the image, ends exclusive."""


def grown(window: Window, margin: int, height: int, width: int) -> Window:
    """A window with a margin of this many pixels around it, cut at the border of an image of ``height`` x ``width``."""
    x0, y0, x1, y1 = window
    return max(x0 - margin, 0), max(y0 - margin, 0), min(x1 + margin, width), min(y1 + margin, height)


@dataclass(frozen=True)
class Surroundings:
    """One instance and what lies around it, on its patch's window grown by a margin.

    Attributes:
        window: ``(x0, y0, x1, y1)`` of the crop in the image.
        inner: The patch's own window.
        intensity: ``(h, w)`` uint8.
        prob: ``(h, w)`` float32, the initial probability, 0 outside the patch.
        neighbours: ``(h, w)`` float32, the largest probability of any other instance.
        foreground: Mean grey level of the instance.
        background: Mean grey level of what belongs to no instance.
    """

    window: Window
    inner: Window
    intensity: Tensor
    prob: Tensor
    neighbours: Tensor
    foreground: Tensor
    background: Tensor

    def crop(self, values: Tensor) -> Tensor:
        """The part of an ``(h, w)`` tensor that lies on the patch's own window."""
        left, top = self.inner[0] - self.window[0], self.inner[1] - self.window[1]
        return values[top : top + self.inner[3] - self.inner[1], left : left + self.inner[2] - self.inner[0]]

    def logit(self) -> Tensor:
        """``(h, w)`` logit of the initial probability, within +-11.6."""
        return clipped_logit(self.prob)

    def relative_intensity(self) -> Tensor:
        """``(h, w)`` intensity on a scale where the background is 0 and the instance's mean is 1, within [-1, 2]."""
        contrast = self.foreground - self.background
        sign = torch.where(contrast < 0, -1.0, 1.0)
        contrast = sign * contrast.abs().clamp(min=MIN_CONTRAST)
        return ((self.intensity.float() - self.background) / contrast).clamp(-1, 2)


def surroundings(image: Tensor, instances: Instances, margin: int) -> list[Surroundings]:
    """Cut out every instance with its neighbours.

    Args:
        image: ``(H, W)`` uint8.
        instances: Instances with patches on this image.
        margin: Pixels around each patch, cut at the image's border.

    Returns:
        One `Surroundings` per instance.
    """
    height, width = instances.image_size
    patches = instances.patches or []
    # The two largest probabilities at every pixel, and which instance has the largest, give every instance the largest
    # probability of all others.
    first = torch.zeros((height, width), device=image.device)
    second = torch.zeros_like(first)
    owner = torch.full((height, width), -1, dtype=torch.int32, device=image.device)
    for index, (patch, score) in enumerate(zip(patches, instances.scores.tolist(), strict=True)):
        if score < NEIGHBOUR_SCORE:
            continue
        x0, y0, x1, y1 = patch.window
        here = (slice(y0, y1), slice(x0, x1))
        values = patch.values.float()
        wins = values > first[here]
        second[here] = torch.where(wins, first[here], torch.maximum(second[here], values))
        owner[here] = torch.where(wins, index, owner[here])
        first[here] = torch.where(wins, values, first[here])
    result = []
    for index, patch in enumerate(patches):
        inner = patch.window
        window = grown(inner, margin, height, width)
        x0, y0, x1, y1 = window
        here = (slice(y0, y1), slice(x0, x1))
        prob = F.pad(patch.values.float(), (inner[0] - x0, x1 - inner[2], inner[1] - y0, y1 - inner[3]))
        neighbours = torch.where(owner[here] == index, second[here], first[here])
        intensity = image[here]
        grey = intensity.float()
        empty = (1 - torch.maximum(prob, neighbours)).clamp(min=0) ** 4 + 1e-3
        foreground = (prob * grey).sum() / prob.sum().clamp(min=1e-3)
        background = (empty * grey).sum() / empty.sum()
        result.append(Surroundings(window, inner, intensity, prob, neighbours, foreground, background))
    return result


def on_cpu(crops: Sequence[Surroundings]) -> list[Surroundings]:
    """Move surroundings to the CPU, in one copy for each dtype."""
    if all(crop.prob.device.type == "cpu" for crop in crops):
        return list(crops)
    levels = moved([crop.intensity for crop in crops], "cpu")
    floats = [value for crop in crops for value in (crop.prob, crop.neighbours, crop.foreground, crop.background)]
    rows = zip(*[iter(moved(floats, "cpu"))] * 4, strict=True)
    return [
        Surroundings(crop.window, crop.inner, level, *row) for crop, level, row in zip(crops, levels, rows, strict=True)
    ]
