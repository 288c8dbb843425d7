"""Orders of samples, whole or as one process's share of them.

Lightning's own distributed sampler repeats images until the processes have equally many, which a score must not count.
Here validation and test images are dealt out without padding, and training samples so that the processes' batches of
one step are together the batch that a single process would have taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import Sampler

from kemr_lightning.core.errors import UserError


@dataclass(frozen=True)
class Share:
    """Which part of the work is a process's own.

    Attributes:
        rank: Of the process, from 0.
        of: Number of processes.
    """

    rank: int = 0
    of: int = 1

    @classmethod
    def under(cls, trainer: pl.Trainer | None) -> Share:
        """The share of this process; all of the work without a trainer."""
        return cls() if trainer is None else cls(trainer.global_rank, trainer.world_size)


class ShareSampler(Sampler[int]):
    """Every ``of``-th image, beginning with the rank's: no image twice, none left out.

    Processes may have different numbers of images, so nothing that waits for the others may happen per batch. A process
    without an image would be left out of the epoch altogether, and the others would wait for it at its end: where there
    are more processes than images, those left over look at an image of another one. The metric, which knows images by
    their ids, counts it once.

    Args:
        length: Number of images.
        share: Of this process.
    """

    def __init__(self, length: int, share: Share | None = None) -> None:
        share = share or Share()
        first = share.rank if share.rank < length or length == 0 else share.rank % length
        self.positions = range(first, length, share.of)

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[int]:
        return iter(self.positions)


class EpochSampler(Sampler[tuple[int, int]]):
    """A seeded order of ``(index, epoch)`` for training: the same seed and epoch give the same samples.

    Lightning calls `set_epoch` before every epoch, also after a resume. Of several processes each takes every ``of``-th
    sample of the one order, all equally many; what does not divide is left out, another part in every epoch.

    Args:
        length: Number of images.
        seed: Seed of the order.
        samples: Samples in an epoch, of all processes together; None takes every image once. More take every image
            several times, each time augmented anew.
        share: Of this process.

    Raises:
        UserError: There are fewer samples than processes.
    """

    def __init__(self, length: int, seed: int, samples: int | None = None, share: Share | None = None) -> None:
        self.length = length
        self.seed = seed
        self.samples = length if samples is None else samples
        self.share = share or Share()
        self.epoch = 0
        self.skip = 0
        """Own samples that the next iteration passes over."""
        if self.samples < self.share.of:
            raise UserError(
                f"an epoch of {self.samples} training samples cannot be shared by {self.share.of} processes. "
                "Give data.epoch_samples=N, or fewer trainer.devices"
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is of."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples // self.share.of

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first = self.share.rank + self.skip * self.share.of
        return islice(self._order(), first, len(self) * self.share.of, self.share.of)

    def _order(self) -> Iterator[tuple[int, int]]:
        """The samples of all processes."""
        # Rounds are counted through all epochs, so that no two samples of a run are alike.
        rounds = -(-self.samples // self.length)
        left = self.samples
        for number in range(self.epoch * rounds, (self.epoch + 1) * rounds):
            order = np.random.default_rng([self.seed, number]).permutation(self.length).tolist()
            yield from ((index, number) for index in order[:left])
            left -= self.length
