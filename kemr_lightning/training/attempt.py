"""One forward pass of a training step: what went in, what came out, and the random numbers it could draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kemr_lightning.core.instances import Sample


@dataclass(frozen=True)
class Attempt:
    """A forward pass of the model in training.

    Attributes:
        samples: What it was given.
        random: The states of the random generators before it, see `random_states`.
        losses: What came out: scalars by name.
        finite: Whether the sum of the losses is finite, in all processes.
    """

    samples: list[Sample]
    random: Mapping[str, Tensor]
    losses: Mapping[str, Tensor]
    finite: bool = True

    @property
    def bad_terms(self) -> list[str]:
        """The names of the losses that are not finite in this process."""
        bad = [name for name, value in self.losses.items() if not bool(torch.isfinite(value))]
        # All terms may be finite, and only their sum too large.
        return bad or (
            [] if bool(torch.isfinite(torch.stack(list(self.losses.values())).sum())) else ["the sum of the losses"]
        )

    def complaint(self) -> str:
        """What is wrong with the losses of this process, and with which images; empty if they are finite."""
        if not self.bad_terms:
            return ""
        return f"{', '.join(self.bad_terms)} is not finite (images {', '.join(sample.name for sample in self.samples)})"


def random_states(device: torch.device) -> dict[str, Tensor]:
    """The states of the random generators that a model on a device draws from, by the name of their device.

    Returns:
        ``(n,)`` uint8 on the CPU, as `torch.get_rng_state` gives them.
    """
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states
