"""Box heads: losses by hand and against torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.roi_heads import fastrcnn_loss

from kemr_lightning.models.box_head import BoxStage, ConvBoxHead
from tests.models.helpers import Flat


def test_losses_are_torchvision_s():
    torch.manual_seed(0)
    stage = BoxStage(Flat(), 3, 0.5, (10, 10, 5, 5), class_agnostic=False, smooth_l1_beta=1 / 9)
    logits, deltas = torch.randn(20, 4), torch.randn(20, 12)
    labels, targets = torch.randint(0, 4, (20,)), torch.randn(20, 4)
    # torchvision has a set of deltas for the background, too.
    expected = fastrcnn_loss(logits, torch.cat([torch.zeros(20, 4), deltas], dim=1), [labels], [targets])
    for one, other in zip(stage.losses(logits, deltas, labels, targets), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_losses_by_hand():
    stage = BoxStage(Flat(), 2, 0.5, (10, 10, 5, 5))
    deltas = torch.tensor([[0.5, 0, 0, 3.0], [9, 9, 9, 9]])
    logits = torch.tensor([[0.0, 0, 0], [0, 0, 0]])
    class_loss, box_loss = stage.losses(logits, deltas, torch.tensor([2, 0]), torch.zeros(2, 4))
    assert class_loss.item() == pytest.approx(1.0986123)
    assert box_loss.item() == pytest.approx((0.125 + 2.5) / 2)  # over both boxes, the background's counted with 0


def test_a_beta_of_zero_is_linear():
    stage = BoxStage(Flat(), 1, 0.5, (10, 10, 5, 5), smooth_l1_beta=0.0)
    deltas = torch.tensor([[0.5, 0, 0, -3.0]], requires_grad=True)
    _, box_loss = stage.losses(torch.zeros(1, 2), deltas, torch.tensor([1]), torch.zeros(1, 4))
    assert box_loss.item() == pytest.approx(3.5)
    box_loss.backward()
    assert deltas.grad.tolist() == [[1, 0, 0, -1]]


def test_no_boxes_keep_the_graph():
    stage = BoxStage(Flat(), 1, 0.5, (10, 10, 5, 5))
    logits, deltas = stage(torch.zeros(0, 2, 1, 1))
    losses = stage.losses(logits, deltas, torch.zeros(0).long(), torch.zeros(0, 4))
    assert [loss.item() for loss in losses] == [0, 0]
    sum(losses).backward()


def test_refining_takes_the_likeliest_class():
    stage = BoxStage(Flat(), 2, 0.5, (10, 10, 5, 5), class_agnostic=False)
    deltas = torch.tensor([[1.0, 0, 0, 0, 0, 2.0, 0, 0]])
    box = torch.tensor([[0.0, 0, 10, 20]])
    assert stage.refine(box, torch.tensor([[9.0, 1, 0]]), deltas).tolist() == [[1, 0, 11, 20]]
    assert stage.refine(box, torch.tensor([[9.0, 0, 1]]), deltas).tolist() == [[0, 4, 10, 24]]


def test_head_layers():
    head = ConvBoxHead(8, size=7, convs=2, width=32, layers=2)
    assert head(torch.rand(3, 8, 7, 7)).shape == (3, 32)
    assert head.out_features == 32
    assert sum(parameter.numel() for parameter in ConvBoxHead(256).parameters()) == 256 * 49 * 1024 + 1024 * 1024 + 2048
