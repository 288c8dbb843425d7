"""Detectors without learning, and images for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kemr_lightning.core.instances import Detections, Instances, Sample


class OneBox(nn.Module):
    """Finds the middle half of the lower half of every image; remembers what it was shown, and in how many views."""

    kind = "one_box"
    max_views = 3

    def __init__(self, loss: float = 1.0, max_detections: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(loss))
        self.max_detections = max_detections
        self.shown: list[Tensor] = []
        self.views: list[int] = []

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Instances] | None = None
    ) -> dict[str, Tensor] | list[Detections]:
        self.shown += images
        if targets is not None:
            return {"loss_a": self.weight * 1.0, "loss_b": self.weight * 2.0}
        result = []
        for image in images:
            height, width = image.shape[-2:]
            box = torch.tensor([[0.25 * width, 0.5 * height, 0.75 * width, float(height)]])
            one = torch.ones(1)
            result.append(Detections(box, one * 0.9, one.long(), torch.ones(1, 28, 28), box, None))
        return result

    def detect_in_views(self, image: Tensor, views: int) -> Detections:
        self.views.append(views)
        (found,) = self([image])
        found.scores = found.scores / views
        return found  # type: ignore[no-any-return]


class TwoByMean(nn.Module):
    """Two instances, whose masks follow from the image's mean; counts the images it has seen."""

    kind = "two_by_mean"
    max_detections = 100
    max_views = 1

    def __init__(self, disagreement: bool = True) -> None:
        super().__init__()
        self.seen = 0
        self.disagreement = disagreement

    def forward(self, images: Sequence[Tensor]) -> list[Detections]:
        self.seen += len(images)
        found = []
        for image in images:
            chance = torch.Generator().manual_seed(int(image.mean() * 1e6))
            boxes = torch.tensor([[3.3, 4.1, 20.7, 30.2], [10.5, 2.2, 44.9, 38.8]])
            grids = torch.rand((2, 7, 7), generator=chance)
            spread = torch.tensor([0.1, 0.2]) if self.disagreement else None
            found.append(Detections(boxes, torch.tensor([0.9, 0.3]), torch.tensor([1, 2]), grids, boxes - 0.5, spread))
        return found

    def detect_in_views(self, image: Tensor, views: int) -> Detections:
        raise AssertionError("this detector has one view")


def noise(seed: int = 0, size: tuple[int, int] = (40, 50), name: str | None = None) -> Sample:
    """A sample of random pixels."""
    pixels = torch.randint(0, 256, size, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Sample(pixels, name or f"{seed}.png", seed + 1)
