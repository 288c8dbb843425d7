"""Losses against hand-worked cases."""

from __future__ import annotations

import torch

from kemr_lightning.learning.losses import area_offset, mask_loss


def test_the_offset_makes_the_soft_area_that_of_the_annotation() -> None:
    chance = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 9, 11, generator=chance)
    target = (torch.rand(3, 9, 11, generator=chance) < 0.4).float()
    valid = torch.ones(3, 9, 11)
    valid[:, :, 8:] = 0
    target *= valid
    area = (torch.sigmoid(logits + area_offset(logits, target, valid)) * valid).sum(dim=(1, 2))
    torch.testing.assert_close(area, target.sum(dim=(1, 2)), rtol=0, atol=0.1)


def test_the_offset_is_bounded() -> None:
    ones = torch.ones(1, 3, 3)
    assert abs(float(area_offset(torch.zeros(1, 3, 3), ones, ones)) - 4) < 0.01


def test_one_pixel_by_hand() -> None:
    # p = 0.5 on a pixel of the target: IoU 0.5 / 1, cross-entropy log 2.
    loss = mask_loss(torch.zeros(1, 1, 1), torch.ones(1, 1, 1), torch.ones(1, 1, 1))
    torch.testing.assert_close(loss, torch.tensor(0.5 + 0.6931472))
