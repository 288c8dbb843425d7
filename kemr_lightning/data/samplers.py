"""Orders of samples, complete or as one process's share.

Lightning's own distributed sampler repeats images until all processes have equally many, which would count them twice
in a score. Here, validation and test images are dealt out without padding. Training samples are dealt out so that the
processes' batches of one step together are the batch that a single process would have taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import Sampler

from kemr_lightning.core.errors import SettingError


@dataclass(frozen=True)
class Share:
    """The part of the work that is one process's own.

    Attributes:
        rank: Rank of the process, from 0.
        of: Number of processes.
    """

    rank: int = 0
    of: int = 1

    @classmethod
    def under(cls, trainer: pl.Trainer | None) -> Share:
        """The share of this process; all of the work if there is no trainer."""
        return cls() if trainer is None else cls(trainer.global_rank, trainer.world_size)


class ShareSampler(Sampler[int]):
    """Deals out every ``of``-th image, from the rank's own: none twice, none left out.

    Processes may get different numbers of images, so nothing that waits for the other processes may happen per batch.
    Lightning would leave a process without images out of the epoch altogether, and the others would wait for it at the
    end. So if there are more processes than images, those left over repeat an image of another process; the metric
    counts it once, since it knows images by their ids.

    Args:
        length: Number of images.
        share: This process's share; None for all.
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

    If an epoch takes images several times, the ``epoch`` in these keys counts the passes through the images instead, so
    that each pass is augmented differently. Lightning calls `set_epoch` before every epoch, also after a resume. Each
    process takes every ``of``-th sample of one common order, and all take equally many; the remainder is left out, a
    different one in every epoch.

    Args:
        length: Number of images.
        seed: Seed of the order.
        samples: Number of samples in an epoch, over all processes; None takes every image once.
        share: This process's share; None for all.

    Raises:
        SettingError: ``epoch_samples``, the number of samples, is smaller than the number of processes.
    """

    def __init__(self, length: int, seed: int, samples: int | None = None, share: Share | None = None) -> None:
        self.length = length
        self.seed = seed
        self.samples = length if samples is None else samples
        self.share = share or Share()
        self.epoch = 0
        self.skip = 0
        """Number of this process's samples that the next iteration skips."""
        if self.samples < self.share.of:
            raise SettingError(
                "epoch_samples",
                samples,
                f"makes an epoch of {self.samples} training samples, fewer than there are processes ({self.share.of})",
                f"Give at least {self.share.of}, or use fewer devices",
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.samples // self.share.of

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first = self.share.rank + self.skip * self.share.of
        return islice(self._order(), first, len(self) * self.share.of, self.share.of)

    def _order(self) -> Iterator[tuple[int, int]]:
        """The samples of all processes."""
        # Passes are counted across epochs, so that no two samples of a run are augmented alike.
        passes = -(-self.samples // self.length)
        left = self.samples
        for number in range(self.epoch * passes, (self.epoch + 1) * passes):
            order = np.random.default_rng([self.seed, number]).permutation(self.length).tolist()
            yield from ((index, number) for index in order[:left])
            left -= self.length
