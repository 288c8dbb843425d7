"""Crops of one image, packed end to end: what travels between a refiner and the engines.

46 small tensors cost 46 launches (on CUDA) or allocations; one flat tensor with the sizes beside it costs one, and
every engine can cut it as it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Crops:
    """Intensity and initial probability of N crops, row by row, crop after crop.

    Attributes:
        intensity: ``(P,)`` uint8, P the number of pixels of all crops together.
        prob: ``(P,)`` float32 in [0, 1].
        sizes: ``(h, w)`` of each crop, in order.
    """

    intensity: Tensor
    prob: Tensor
    sizes: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def pack(cls, intensities: Sequence[Tensor], probs: Sequence[Tensor]) -> Crops:
        """Lay N ``(h, w)`` intensities and N ``(h, w)`` probabilities end to end."""
        sizes = tuple((int(prob.shape[0]), int(prob.shape[1])) for prob in probs)
        if not sizes:
            return cls(torch.zeros(0, dtype=torch.uint8), torch.zeros(0), ())
        return cls(
            torch.cat([crop.reshape(-1) for crop in intensities]), torch.cat([p.reshape(-1) for p in probs]), sizes
        )

    @property
    def areas(self) -> list[int]:
        """Pixels of each crop."""
        return [height * width for height, width in self.sizes]

    def select(self, index: Sequence[int]) -> Crops:
        """Some of the crops, in the order given."""
        intensity, prob = self.intensity.split_with_sizes(self.areas), self.prob.split_with_sizes(self.areas)
        return replace(
            self,
            intensity=torch.cat([intensity[i] for i in index]),
            prob=torch.cat([prob[i] for i in index]),
            sizes=tuple(self.sizes[i] for i in index),
        )

    def unpack(self, values: Tensor) -> list[Tensor]:
        """Cut ``(P,)`` values into views of ``(h, w)``, one per crop."""
        return [flat.view(size) for flat, size in zip(values.split_with_sizes(self.areas), self.sizes, strict=True)]


def moved(tensors: Sequence[Tensor], device: torch.device | str) -> list[Tensor]:
    """Move tensors of one dtype to a device in one copy, so that the CPU waits for a GPU only once."""
    device = torch.device(device)
    if all(tensor.device == device for tensor in tensors):
        return list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors]).to(device)
    parts = flat.split_with_sizes([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
