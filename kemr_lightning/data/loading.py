"""Loaders of samples: batches are lists, and a training that is resumed goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from kemr_lightning.core.instances import Sample
from kemr_lightning.data.samplers import EpochSampler, Share, ShareSampler


def as_list(samples: list[Sample]) -> list[Sample]:
    """Batches are lists: images differ in size and instances in number."""
    return samples


class TrainingLoader(DataLoader[Sample]):
    """Training batches in the sampler's order.

    Lightning resumes in the middle of an epoch, where checkpoints are written, but a plain loader would begin the
    epoch's order anew: its first samples would be seen twice, its last ones not at all. Lightning keeps this loader's
    state in checkpoints; with it the epoch goes on behind the batches that were given.

    Args:
        dataset: Asked for ``(index, epoch)``.
        sampler: Order of the samples of this process.
        batch_size: Samples in a batch. Incomplete batches are left out, unless the epoch has nothing else.
        num_workers: Worker processes.
    """

    def __init__(self, dataset: Dataset[Sample], sampler: EpochSampler, batch_size: int, num_workers: int = 0) -> None:
        super().__init__(
            dataset,
            batch_size=batch_size,
            sampler=sampler,  # of (index, epoch), which the data sets understand
            num_workers=num_workers,
            collate_fn=as_list,
            drop_last=len(sampler) >= batch_size,
            persistent_workers=num_workers > 0,
        )
        self.order = sampler
        self.given = 0
        """Batches given in the epoch so far."""
        self._reached: tuple[int, int] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batches given in it."""
        return {"epoch": self.order.epoch, "batches": self.given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state, if the next iteration is of its epoch."""
        self._reached = (int(state["epoch"]), int(state["batches"]))

    @override
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # A generator begins when its first batch is asked for: Lightning makes the iterator of a resumed training
        # before it tells the sampler the epoch, and worker processes would begin with epoch 0.
        reached, self._reached = self._reached, None
        goes_on = reached is not None and reached[0] == self.order.epoch and reached[1] < len(self)
        self.given = reached[1] if reached is not None and goes_on else 0
        self.order.skip = self.given * (self.batch_size or 1)
        for batch in super().__iter__():
            self.given += 1
            yield batch


def evaluation_loader(dataset: Dataset[Sample], length: int, share: Share, num_workers: int = 0) -> DataLoader[Sample]:
    """A process's share of images in order, one a batch.

    Args:
        dataset: The images.
        length: Their number.
        share: Of this process.
        num_workers: Worker processes.
    """
    return DataLoader(
        dataset,
        sampler=ShareSampler(length, share),
        num_workers=num_workers,
        collate_fn=as_list,
        persistent_workers=num_workers > 0,
    )
