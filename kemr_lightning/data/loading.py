"""Loaders whose batches are lists of samples; a resumed training continues where it stopped."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from kemr_lightning.core.instances import Sample
from kemr_lightning.core.signals import leave_signals_to_the_main_process
from kemr_lightning.data.samplers import EpochSampler, Share, ShareSampler


def as_list(samples: list[Sample]) -> list[Sample]:
    """Collate a batch as a list: images differ in size, and in their number of instances."""
    return samples


def killed_worker(error: BaseException) -> str | None:
    """What to tell of an error that PyTorch raises when a worker process of a loader has died; None for others.

    The operating system kills processes when the memory is full, and PyTorch raises a `RuntimeError` wherever the main
    process happens to be.

    Args:
        error: Any error.
    """
    cause: BaseException | None = error
    ways: list[str | None] = []
    while cause is not None:
        found = _DIED.search(str(cause)) if isinstance(cause, RuntimeError) else None
        ways += [found["how"]] if found is not None else []
        ways += [None] if _cut_off(cause) else []
        cause = cause.__cause__ or cause.__context__
    if not ways:
        return None
    # PyTorch's outer error says that a worker exited, the one within it may know the signal.
    how = next((way for way in reversed(ways) if way), "exited unexpectedly")
    return f"a worker process that loads images died ({how.strip()})"


def _cut_off(error: BaseException) -> bool:
    """Whether a loader could not fetch a batch, because the worker that had sent it died in the meantime."""
    if not isinstance(error, EOFError | ConnectionError):
        return False
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == "torch.utils.data.dataloader" for frame, _ in frames)


_DIED = re.compile(r"DataLoader worker \(pid\(?s?\)?[^)]*\) (?:is (?P<how>killed by signal: [\w ]+)|exited)")


class TrainingLoader(DataLoader[Sample]):
    """Loads training batches in the sampler's order.

    Checkpoints are written in the middle of an epoch, and Lightning resumes there, but a plain loader would start the
    epoch's order again: its first samples would be seen twice, its last ones never. Lightning saves this loader's state
    in checkpoints; with it, the epoch continues after the batches already given.

    Args:
        dataset: Indexed by the sampler's ``(index, epoch)``.
        sampler: Order of this process's samples.
        batch_size: Samples in a batch. An incomplete last batch is dropped, unless it is the only one.
        num_workers: Number of worker processes.
    """

    def __init__(self, dataset: Dataset[Sample], sampler: EpochSampler, batch_size: int, num_workers: int = 0) -> None:
        super().__init__(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=num_workers,
            collate_fn=as_list,
            drop_last=len(sampler) >= batch_size,
            persistent_workers=num_workers > 0,
            worker_init_fn=leave_signals_to_the_main_process,
        )
        self.order = sampler
        self.given = 0
        """Number of batches given in this epoch so far."""
        self._reached: tuple[int, int] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The epoch and the number of batches given in it."""
        return {"epoch": self.order.epoch, "batches": self.given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state of `state_dict`, if the next iteration is in the same epoch."""
        self._reached = (int(state["epoch"]), int(state["batches"]))

    @override
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # As a generator, this starts only when its first batch is requested. When Lightning resumes, it creates the
        # iterator before it tells the sampler the epoch, and worker processes would start with epoch 0.
        reached, self._reached = self._reached, None
        goes_on = reached is not None and reached[0] == self.order.epoch and reached[1] < len(self)
        self.given = reached[1] if reached is not None and goes_on else 0
        self.order.skip = self.given * (self.batch_size or 1)
        for batch in super().__iter__():
            self.given += 1
            yield batch


def evaluation_loader(dataset: Dataset[Sample], length: int, share: Share, num_workers: int = 0) -> DataLoader[Sample]:
    """Load a process's share of the images in order, one per batch.

    Args:
        dataset: The images.
        length: Number of images.
        share: This process's share.
        num_workers: Number of worker processes.
    """
    return DataLoader(
        dataset,
        sampler=ShareSampler(length, share),
        num_workers=num_workers,
        collate_fn=as_list,
        persistent_workers=num_workers > 0,
        worker_init_fn=leave_signals_to_the_main_process,
    )
