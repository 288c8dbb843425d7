from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.refinement import surroundings as module
from kemr_lightning.refinement.surroundings import on_cpu, surroundings


def _scene() -> tuple[torch.Tensor, Instances]:
    """Three squares on a dark image: 0 and 1 touch, 2 is a weak second detection of 0."""
    image = torch.full((30, 40), 10, dtype=torch.uint8)
    image[5:15, 5:15] = 110
    image[5:15, 15:25] = 60
    windows = [(5, 5, 15, 15), (15, 5, 25, 15), (5, 5, 15, 15)]
    patches = [Patch(x0, y0, torch.full((y1 - y0, x1 - x0), 0.9)) for x0, y0, x1, y1 in windows]
    boxes = torch.tensor(windows, dtype=torch.float32)
    return image, Instances((30, 40), boxes, torch.tensor([0.9, 0.8, 0.2]), torch.ones(3, dtype=torch.int64), patches)


def test_neighbours_are_the_largest_other_probability_of_sure_instances() -> None:
    image, instances = _scene()
    first, second, weak = surroundings(image, instances, 3)
    assert first.window == (2, 2, 18, 18)
    expected = torch.zeros(16, 16)
    expected[3:13, 13:16] = (
        0.9  # columns 15-17 of the image are the second square's; the weak detection is not a neighbour
    )
    assert torch.equal(first.neighbours, expected)
    assert float(second.neighbours[3:13, :3].min()) == torch.tensor(0.9)
    assert float(weak.neighbours[3:13, 3:13].min()) == torch.tensor(0.9)


def test_relative_intensity_is_one_on_the_instance_and_zero_beside_it_for_either_contrast() -> None:
    image, instances = _scene()
    alone = instances[[0]]
    bright = surroundings(image, alone, 3)[0]
    dark = surroundings(255 - image, alone, 3)[0]
    inside = bright.crop(bright.relative_intensity())
    # Foreground is 110. The rim of the crop holds 10s and, right of the square, 60s; the background is between them.
    assert float(inside.mean()) == torch.tensor(1.0)
    assert torch.allclose(bright.relative_intensity(), dark.relative_intensity(), atol=1e-4)
    assert abs(float(bright.relative_intensity()[0, 0])) < 0.25


def test_crop_gives_back_the_patch_at_the_border_of_the_image() -> None:
    image = torch.randint(0, 255, (12, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    values = torch.rand(12, 4, generator=torch.Generator().manual_seed(2))
    instances = Instances(
        (12, 9), torch.tensor([[0.0, 0, 4, 12]]), torch.ones(1), torch.ones(1, dtype=torch.int64), [Patch(0, 0, values)]
    )
    crop = surroundings(image, instances, 5)[0]
    assert crop.window == (0, 0, 9, 12)
    assert torch.equal(crop.crop(crop.prob), values)
    assert torch.equal(crop.intensity, image)


def test_surroundings_of_another_device_come_to_the_cpu_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: only the copy itself is replaced."""
    image, instances = _scene()
    wanted = surroundings(image, instances, 3)
    on_meta = [
        replace(
            crop, **{name: value.to("meta") for name, value in vars(crop).items() if isinstance(value, torch.Tensor)}
        )
        for crop in wanted
    ]
    copies = []

    def copied(tensors: list[torch.Tensor], device: str) -> list[torch.Tensor]:
        copies.append(device)
        twins = {
            id(there): getattr(here, name)
            for here, other in zip(wanted, on_meta, strict=True)
            for name, there in vars(other).items()
        }
        return [twins[id(tensor)] for tensor in tensors]

    monkeypatch.setattr(module, "moved", copied)
    for crop, other in zip(on_cpu(on_meta), wanted, strict=True):
        assert all(
            torch.equal(torch.as_tensor(a), torch.as_tensor(b))
            for a, b in zip(vars(crop).values(), vars(other).values(), strict=True)
        )
    assert copies == ["cpu", "cpu"]
