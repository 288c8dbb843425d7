"""The types that travel."""

from __future__ import annotations

import pytest
import torch

from kemr_lightning.core.instances import Detections, Instances, Patch, Sample


def three() -> Instances:
    patches = [Patch(i, 2 * i, torch.full((2, 3), 0.2 + 0.3 * i)) for i in range(3)]
    return Instances(
        (20, 30),
        torch.arange(12.0).view(3, 4),
        torch.tensor([0.9, 0.8, 0.7]),
        torch.tensor([1, 2, 3]),
        patches,
        torch.tensor([0.1, 0.2, 0.3]),
    )


def test_patch():
    patch = Patch(4, 5, torch.tensor([[0.4, 0.5, 0.6], [0.0, 1.0, 0.2]]))
    assert patch.window == (4, 5, 7, 7)
    assert patch.binary().tolist() == [[False, True, True], [False, True, False]]
    assert patch.area() == 3
    assert patch.area(0.55) == 2
    mask = torch.tensor([[True, False]])
    assert Patch(0, 0, mask).binary(0.9) is mask


def test_selection():
    instances = three()
    assert instances[[2, 0]].labels.tolist() == [3, 1]
    assert instances[torch.tensor([False, True, True])].patches == instances.patches[1:]
    assert instances[1:].disagreement.tolist() == pytest.approx([0.2, 0.3])
    assert len(instances[torch.zeros(3, dtype=torch.bool)]) == 0
    assert instances[[-1]].labels.tolist() == [3]
    assert [len(one) for one in instances] == [1, 1, 1]
    boxes_only = Instances((5, 5), torch.zeros(2, 4), torch.ones(2), torch.ones(2, dtype=torch.int64), None)
    assert boxes_only[[1]].patches is None


def test_masks():
    masks = three().masks(0.45)
    assert masks.shape == (3, 20, 30)
    assert masks.sum(dim=(1, 2)).tolist() == [0, 6, 6]
    assert masks[1, 2:4, 1:4].all()
    assert Instances.empty((4, 5)).masks().shape == (0, 4, 5)
    with pytest.raises(ValueError, match="boxes only"):
        Instances((5, 5), torch.zeros(1, 4), torch.ones(1), torch.ones(1), None).masks()


def test_numbers_must_agree():
    with pytest.raises(ValueError, match="disagree"):
        Instances((5, 5), torch.zeros(2, 4), torch.ones(1), torch.ones(2, dtype=torch.int64), None)
    with pytest.raises(ValueError, match="disagree"):
        Instances((5, 5), torch.zeros(1, 4), torch.ones(1), torch.ones(1, dtype=torch.int64), [])


def test_moving_to_a_device():
    moved = three().to("meta")
    assert moved.boxes.is_meta
    assert moved.patches[0].values.is_meta
    assert Instances.empty((4, 5)).to("meta").scores.is_meta
    sample = Sample(torch.zeros(20, 30, dtype=torch.uint8), "a.png", 1, three()).to("meta")
    assert sample.image.is_meta
    assert sample.instances.labels.is_meta
    assert sample.image_size == (20, 30)


def test_detections_are_selected_together():
    found = Detections(
        torch.arange(8.0).view(2, 4),
        torch.tensor([0.9, 0.8]),
        torch.tensor([1, 2]),
        torch.rand(2, 4, 4),
        torch.rand(2, 4),
    )
    second = found.select(torch.tensor([1]))
    assert second.labels.tolist() == [2]
    assert torch.equal(second.grids, found.grids[1:])
    assert torch.equal(second.regions, found.regions[1:])
    assert second.disagreement is None


def test_an_empty_list_selects_nothing() -> None:
    instances = Instances((4, 4), torch.zeros(2, 4), torch.ones(2), torch.ones(2, dtype=torch.int64), None)
    assert len(instances[[]]) == 0
