"""A learned unary: what the image itself says about each pixel, besides what the mask head said.

The mask head sees features on a coarse grid; the CRF's kernels compare grey levels, but cannot tell a chromosome's rim
from a band. The evidence network, some 6,000 weights at the image's own resolution, turns the initial logit, the
intensity relative to instance and background, and the neighbours' masks into a corrected logit, which the CRF then
takes as its unary. It is one of the Networks of Neural Knowledge DNA.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kemr_lightning.refinement.surroundings import Surroundings

FEATURES = 4
"""Channels of the network's input."""

LOGIT_LIMIT = 6.0
"""Initial logits are clipped to +- this, so that a sure pixel can still be corrected."""

LOGIT_SCALE = 3.0
"""Initial logits are divided by this, to have the size of the other features."""


def evidence_features(crop: Surroundings) -> Tensor:
    """The evidence network's input for an instance.

    Args:
        crop: The instance and its surroundings.

    Returns:
        ``(4, h, w)`` float32: initial logit within +-6, divided by 3; relative intensity; the neighbours' probability;
        1 on the patch's own window and 0 on the margin.
    """
    inside = torch.zeros_like(crop.prob)
    crop.crop(inside).fill_(1.0)
    logit = crop.logit().clamp(-LOGIT_LIMIT, LOGIT_LIMIT) / LOGIT_SCALE
    return torch.stack([logit, crop.relative_intensity(), crop.neighbours, inside])


class EvidenceNet(nn.Module):
    """A small fully convolutional network that sees 17 x 17 pixels, initially the identity on the logit.

    Args:
        width: Channels of the hidden layers.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = width
        self.inputs = nn.Conv2d(FEATURES, width, 5, padding=2)
        self.middle = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.wide = nn.Conv2d(width, width, 3, padding=4, dilation=4)
        self.output = nn.Conv2d(width, 1, 1)
        self.confidence = nn.Parameter(torch.tensor(1.0))
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Correct logits.

        Args:
            features: ``(B, 4, H, W)``, see `pad_features`.
            valid: ``(B, H, W)``, 1 on pixels of the crop and 0 on padding. Padding is kept at 0 in every layer, so
                that a crop's result does not depend on the other crops of its batch.

        Returns:
            ``(B, H, W)`` corrected logits, meaningless on padding.
        """
        inside = valid[:, None]
        hidden = F.relu(self.inputs(features)) * inside
        hidden = (hidden + F.relu(self.middle(hidden))) * inside
        hidden = hidden + F.relu(self.wide(hidden))
        logits: Tensor = features[:, 0] * LOGIT_SCALE * self.confidence + self.output(hidden)[:, 0]
        return logits


def pad_features(features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack crops of different sizes, padded on the right and below with 0.

    Args:
        features: ``(4, h_i, w_i)`` each.

    Returns:
        ``(B, 4, H, W)`` features, channels last in memory (faster for small convolutions), and ``(B, H, W)`` float32
        validity, 1 on pixels of the crop and 0 on padding.
    """
    height = max(int(each.shape[1]) for each in features)
    width = max(int(each.shape[2]) for each in features)
    stacked = features[0].new_zeros((len(features), FEATURES, height, width))
    valid = features[0].new_zeros((len(features), height, width))
    for row, each in enumerate(features):
        stacked[row, :, : each.shape[1], : each.shape[2]] = each
        valid[row, : each.shape[1], : each.shape[2]] = 1
    return stacked.contiguous(memory_format=torch.channels_last), valid


@torch.no_grad()
def corrected_logits(
    network: EvidenceNet, crops: Sequence[Surroundings], batch_pixels: int | None = None
) -> list[Tensor]:
    """Run the evidence network on all instances of an image, in batches of similar size.

    Args:
        network: The evidence network.
        crops: The instances.
        batch_pixels: Maximum pixels of a batch, padding included (a single crop may have more); bounds the memory. None
            takes what is fastest: few on a CPU, whose caches are small, many elsewhere.

    Returns:
        ``(h, w)`` float32 corrected logits per instance.
    """
    if batch_pixels is None:
        on_cpu = not crops or crops[0].prob.device.type == "cpu"
        batch_pixels = 30_000 if on_cpu else 1_000_000
    order = sorted(range(len(crops)), key=lambda index: -crops[index].prob.numel())
    results: list[Tensor] = [torch.empty(0)] * len(crops)
    while order:
        group, height, width = [order.pop(0)], 0, 0
        height, width = (int(side) for side in crops[group[0]].prob.shape)
        while order:
            rows, columns = (int(side) for side in crops[order[0]].prob.shape)
            height, width = max(height, rows), max(width, columns)
            if (len(group) + 1) * height * width > batch_pixels:
                break
            group.append(order.pop(0))
        logits = network(*pad_features([evidence_features(crops[index]) for index in group]))
        for row, index in enumerate(group):
            rows, columns = crops[index].prob.shape
            results[index] = logits[row, :rows, :columns]
    return results
