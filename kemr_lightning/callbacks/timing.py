"""How long training and testing take, for ``timing.json``."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from typing_extensions import override

from kemr_lightning.callbacks.evaluation import run_directory_of
from kemr_lightning.callbacks.refinement import find_refinement
from kemr_lightning.output.timing_file import write_timing


class TimingCallback(pl.Callback):
    """Writes ``timing.json``: ``machine``, and ``training`` and ``test`` as soon as each is known.

    ``training`` has ``seconds`` (wall clock, without validation), ``cpu_seconds`` (of this process with all its
    threads), ``validation_seconds`` and ``steps``. They travel in checkpoints, so that after a resume they are the
    times of the steps that made the model, without those that an interruption has lost.

    ``test`` has the median ``seconds_per_image`` of the model and ``refinement_seconds_per_image``, both wall clock,
    and the number of ``images`` that were timed. Images whose predictions came from the store are not timed. The
    median ignores one-time costs that fall on the first image (compiling, allocating).

    It must come before the `RefinementCallback`, or refinement is timed as part of the model.

    Args:
        directory: Where the file goes; None for the trainer's ``default_root_dir``.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory = directory
        self.training = {"seconds": 0.0, "cpu_seconds": 0.0, "validation_seconds": 0.0}
        self.seconds: list[float] = []
        """Time that the model took for each image of the last test."""
        self._since: tuple[float, float] | None = None
        self._batch = 0.0
        self._reused = 0

    @override
    def state_dict(self) -> dict[str, Any]:
        self._count()
        return dict(self.training)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.training = {name: float(state_dict.get(name, 0.0)) for name in self.training}

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._since = _now(pl_module)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._since is not None:
            self._count()
            self._since = None
            self._batch = time.perf_counter()

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.training["validation_seconds"] += time.perf_counter() - self._batch
            self._since = _now(pl_module)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._count()
        self._since = None

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not at the end of the training, which a resumed run with no step left to take does not have.
        self._write(trainer, pl_module, "training", {**self.training, "steps": trainer.global_step})

    @override
    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds = []

    @override
    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._reused = _reused(pl_module)
        self._batch, _ = _now(pl_module)

    @override
    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        now, _ = _now(pl_module)
        if _reused(pl_module) == self._reused:
            self.seconds += [(now - self._batch) / len(batch)] * len(batch)

    @override
    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        refinement = find_refinement(trainer)
        refining = refinement.seconds if refinement is not None and refinement.refiner is not None else []
        values = {
            "images": len(self.seconds),
            "seconds_per_image": statistics.median(self.seconds) if self.seconds else None,
            "refinement_seconds_per_image": statistics.median(refining) if refining else None,
        }
        self._write(trainer, pl_module, "test", values)

    def _count(self) -> None:
        """Add the time since the last call; outside training, nothing."""
        if self._since is None:
            return
        now = (time.perf_counter(), time.process_time())
        self.training["seconds"] += now[0] - self._since[0]
        self.training["cpu_seconds"] += now[1] - self._since[1]
        self._since = now

    def _write(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        part: Literal["training", "test"],
        values: dict[str, Any],
    ) -> None:
        if trainer.is_global_zero:
            write_timing(run_directory_of(trainer, self.directory), part, values, pl_module.device)


def _now(module: pl.LightningModule) -> tuple[float, float]:
    """Wall clock and processor time in seconds, once the device has finished all queued work."""
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return time.perf_counter(), time.process_time()


def _reused(module: pl.LightningModule) -> int:
    """How many predictions have come from the module's store so far."""
    store = getattr(module, "store", None)
    return 0 if store is None else int(store.reused)
