"""The mask branch: regions, targets, losses."""

from __future__ import annotations

import math
from collections import OrderedDict

import pytest
import torch

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.models.mask_branch import MaskBranch, outlined_matches
from kemr_lightning.models.mask_head import MaskHead
from kemr_lightning.models.pooler import AlignedRoIPooler
from tests.models.helpers import ConstantMask, RecordingPooler, features_of, rectangles

SIZE = (64, 64)


def constant(logits: list[list[float]], **settings: object) -> MaskBranch:
    heads = [ConstantMask(each) for each in logits]
    return MaskBranch(heads, RecordingPooler(14), head_weights=[1.0] * len(heads), **settings)  # type: ignore[arg-type]


def test_loss_by_hand():
    # The left half of the region is covered, the right half is not.
    target = rectangles([(10, 10, 24, 38)], SIZE)
    branch = constant([[1.5]])
    region = torch.tensor([[-4.0, 10, 52, 38]])
    half = Instances(SIZE, region, torch.ones(1), torch.ones(1).long(), [Patch(0, 0, torch.ones(64, 24).bool())])
    loss = branch.loss(features_of(), [torch.tensor([[10.0, 10, 38, 38]])], [torch.tensor([0])], [half])
    assert loss.item() == pytest.approx(0.5 * (math.log(1 + math.exp(-1.5)) + math.log(1 + math.exp(1.5))), abs=1e-5)
    assert len(target) == 1


def test_regions_are_grown_boxes():
    branch = constant([[0.0]], growth=0.5, margin=1.0)
    grids, regions, spread = branch.predict(features_of(), [torch.tensor([[10.0, 20, 30, 60]])], [torch.tensor([1])])
    assert regions[0].tolist() == [[4, 9, 36, 71]]
    assert branch.pooler.calls[0][0].tolist() == [[4, 9, 36, 71]]
    assert grids[0].shape == (1, 28, 28)
    assert spread is None


def test_number_of_positives_is_limited_per_image():
    branch = constant([[0.0]], max_positives=3)
    target = rectangles([(0, 0, 10, 10)], SIZE)
    boxes = target.boxes.repeat(7, 1)
    branch.loss(features_of(2), [boxes, boxes[:2]], [torch.zeros(7).long(), torch.zeros(2).long()], [target, target])
    assert [len(box) for box in branch.pooler.calls[0]] == [3, 2]


def test_images_with_boxes_only_teach_no_masks():
    branch = constant([[0.5]])
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    only = Instances(SIZE, boxes, torch.ones(1), torch.ones(1).long(), None)
    loss = branch.loss(features_of(), [boxes], [torch.zeros(1).long()], [only])
    assert loss.item() == 0
    loss.backward()


def test_binary_and_soft_targets():
    # Three quarters of a cell's pixels are covered: 1 when thresholded, 0.75 else.
    mask = torch.zeros(56, 56, dtype=torch.bool)
    mask[0::2, 0::2] = mask[1::2, 0::2] = mask[0::2, 1::2] = True
    target = Instances(SIZE, torch.tensor([[0.0, 0, 56, 56]]), torch.ones(1), torch.ones(1).long(), [Patch(0, 0, mask)])
    arguments = (features_of(), [target.boxes], [torch.zeros(1).long()], [target])
    on, off = math.log(1 + math.exp(-1.0)), math.log(1 + math.exp(1.0))
    assert constant([[1.0]], binary_targets=True).loss(*arguments).item() == pytest.approx(on, abs=1e-5)
    assert constant([[1.0]]).loss(*arguments).item() == pytest.approx(0.75 * on + 0.25 * off, abs=1e-5)


def test_head_weights_and_choice():
    branch = MaskBranch(
        [ConstantMask([0.0]), ConstantMask([0.0])],  # type: ignore[list-item]
        RecordingPooler(14),  # type: ignore[arg-type]
        head_weights=[1.0, 0.5],
    )
    target = rectangles([(0, 0, 10, 10)], SIZE)
    arguments = (features_of(), [target.boxes], [torch.zeros(1).long()], [target])
    assert branch.loss(*arguments, head=0).item() == pytest.approx(math.log(2), abs=1e-5)
    assert branch.loss(*arguments, head=1).item() == pytest.approx(math.log(2) / 2, abs=1e-5)
    with pytest.raises(ValueError, match="one weight per mask head"):
        MaskBranch([ConstantMask([0.0])], RecordingPooler(14), head_weights=[1.0, 1.0])  # type: ignore[arg-type,list-item]


def test_heads_with_fine_features():
    torch.manual_seed(0)
    head = MaskHead(4, 2, width=8, convs=2, fine_channels=3, fine_width=6)
    assert head(torch.rand(5, 4, 14, 14), torch.rand(5, 3, 28, 28)).shape == (5, 2, 28, 28)
    with pytest.raises(ValueError, match="fine"):
        head(torch.rand(5, 4, 14, 14))
    branch = MaskBranch([head], AlignedRoIPooler(14, [4]), AlignedRoIPooler(28, [2], 1))
    features = OrderedDict({"0": torch.rand(1, 4, 16, 16), "fine": torch.rand(1, 3, 32, 32)})
    grids, _, _ = branch.predict(features, [torch.tensor([[4.0, 4, 40, 30]])], [torch.tensor([2])])
    assert grids[0].shape == (1, 28, 28)


def test_instances_with_a_box_alone_teach_no_masks():
    branch = constant([[0.5]])
    known = rectangles([(0, 0, 8, 8), (8, 8, 30, 16)], SIZE)
    match = torch.tensor([0, 1, 0])
    assert outlined_matches(known, match).tolist() == [0, 1, 2]
    known.outlined = torch.tensor([False, True])
    assert outlined_matches(known, match).tolist() == [1]
    branch.loss(features_of(), [known.boxes[match]], [match], [known])
    assert branch.pooler.calls[0][0].tolist() == [[8, 8, 30, 16]]
