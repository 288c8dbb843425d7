"""Anchors on regions to ignore have no loss; all else is torchvision's."""

from __future__ import annotations

from dataclasses import replace

import torch
from torchvision.models.detection.rpn import RegionProposalNetwork

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.models.build import region_proposals

SIZE = (64, 64)


def region(x0: int, y0: int, side: int) -> Instances:
    patch = Patch(x0, y0, torch.ones((side, side), dtype=torch.bool))
    return Instances(SIZE, torch.tensor([patch.window]).float(), torch.ones(1), torch.ones(1).long(), [patch])


def test_background_on_ignored_regions_is_left_out() -> None:
    network = region_proposals(8, [[16]], [1.0])
    anchors = [torch.tensor([[0, 0, 16, 16], [32, 32, 48, 48], [30, 30, 46, 46], [4, 0, 20, 16]]).float()]
    truth = Instances(SIZE, torch.tensor([[0.0, 0.0, 16.0, 16.0]]), torch.ones(1), torch.ones(1).long(), None)

    def labels(target: Instances) -> list[float]:
        found, _ = network.assign_targets_to_anchors(anchors, [{"boxes": target.boxes, "instances": target}])
        return found[0].tolist()

    expected, _ = RegionProposalNetwork.assign_targets_to_anchors(network, anchors, [{"boxes": truth.boxes}])
    assert labels(truth) == expected[0].tolist() == [1, 0, 0, -1]
    assert labels(replace(truth, ignored=region(32, 32, 16))) == [1, -1, -1, -1]
    # What is annotated is learned wherever it lies.
    assert labels(replace(truth, ignored=region(0, 0, 32))) == [1, 0, 0, -1]
