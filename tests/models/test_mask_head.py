"""Mask heads: shapes, the layers by hand, what starts at zero."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kemr_lightning.models.mask_head import MaskHead


def test_the_layers_by_hand() -> None:
    torch.manual_seed(0)
    head = MaskHead(3, 2, width=5, convs=2)
    for layer in head.modules():
        if getattr(layer, "bias", None) is not None:
            torch.nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    pooled = torch.rand(4, 3, 7, 7)
    first, second, up = head.coarse[0], head.coarse[2], head.coarse[4]
    values = F.relu(F.conv2d(pooled, first.weight, first.bias, padding=1))
    values = F.relu(F.conv2d(values, second.weight, second.bias, padding=1))
    values = F.relu(F.conv_transpose2d(values, up.weight, up.bias, stride=2))
    wanted = F.conv2d(values, head.logits.weight, head.logits.bias)
    assert wanted.shape == (4, 2, 14, 14)
    torch.testing.assert_close(head(pooled), wanted)


def test_fine_features_join_on_the_doubled_grid() -> None:
    torch.manual_seed(0)
    head = MaskHead(3, 2, width=5, convs=1, fine_channels=4, fine_width=6)
    pooled, fine = torch.rand(2, 3, 7, 7), torch.rand(2, 4, 14, 14)
    assert head.fine is not None
    layer = head.fine[0]  # type: ignore[index]
    assert (layer.in_channels, layer.out_channels) == (6 + 4, 6)
    joined = torch.cat([head.coarse(pooled), fine], dim=1)
    wanted = head.logits(F.relu(F.conv2d(joined, layer.weight, layer.bias, padding=1)))
    torch.testing.assert_close(head(pooled, fine), wanted)
    with pytest.raises(ValueError, match="needs fine features"):
        head(pooled)


def test_no_regions() -> None:
    assert MaskHead(3, 2, width=4)(torch.zeros(0, 3, 7, 7)).shape == (0, 2, 14, 14)


def test_fresh_masks_are_undecided() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        probabilities = MaskHead(8, 1, width=16)(torch.rand(3, 8, 7, 7)).sigmoid()
    assert float((probabilities - 0.5).abs().max()) < 0.1
