"""How long training and prediction take, in ``timing.json``."""

from __future__ import annotations

import platform
import statistics
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from typing_extensions import override

from kemr_lightning.callbacks.refinement import RefinementCallback
from kemr_lightning.core.files import write_json
from kemr_lightning.core.run_directory import TIMING
from kemr_lightning.output.timing import read_timing
from kemr_lightning.training.store import PredictionStore


class TimingCallback(pl.Callback):
    """Writes ``timing.json``: ``machine``, ``training`` and ``test``, each part when it is known.

    ``training`` has ``seconds`` (wall clock, validation left out), ``cpu_seconds`` (of this process, all its threads),
    ``validation_seconds`` and ``steps``. They travel in checkpoints: after a resume they are those of the steps that
    made the model, whatever was lost by the interruption left out.

    ``test`` has the median ``seconds_per_image`` of the model and ``refinement_seconds_per_image``, wall clock, and the
    number of ``images`` they are of. Images whose predictions came from the store are not timed. The median leaves out
    what the first image pays for all (compiling, memory).

    It comes before the `RefinementCallback`, whose work would be counted as the model's otherwise.

    Args:
        directory: Where the file goes; None for the trainer's ``default_root_dir``.
    """

    def __init__(self, directory: str | Path | None = None) -> None:
        self.directory = None if directory is None else Path(directory)
        self.training = {"seconds": 0.0, "cpu_seconds": 0.0, "validation_seconds": 0.0}
        self.seconds: list[float] = []
        """What the model took for each image of the last test."""
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
        refining: list[float] = []
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RefinementCallback) and callback.refiner is not None:
                refining = callback.seconds
        values = {
            "images": len(self.seconds),
            "seconds_per_image": statistics.median(self.seconds) if self.seconds else None,
            "refinement_seconds_per_image": statistics.median(refining) if refining else None,
        }
        self._write(trainer, pl_module, "test", values)

    def _count(self) -> None:
        """Add what has passed since the last time; nothing outside training."""
        if self._since is None:
            return
        now = (time.perf_counter(), time.process_time())
        self.training["seconds"] += now[0] - self._since[0]
        self.training["cpu_seconds"] += now[1] - self._since[1]
        self._since = now

    def _write(self, trainer: pl.Trainer, pl_module: pl.LightningModule, part: str, values: dict[str, Any]) -> None:
        if not trainer.is_global_zero:
            return
        path = (self.directory or Path(trainer.default_root_dir)) / TIMING
        write_json(path, {**read_timing(path.parent), "machine": machine(pl_module.device), part: values}, indent=1)


def machine(device: torch.device) -> dict[str, Any]:
    """What the times were measured on: device, threads, version of torch."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {platform.machine()}"
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__}


def _now(module: pl.LightningModule) -> tuple[float, float]:
    """Wall clock and processor time, the device's queue worked off."""
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
    return time.perf_counter(), time.process_time()


def _reused(module: pl.LightningModule) -> int:
    store = getattr(module, "store", None)
    return store.reused if isinstance(store, PredictionStore) else 0
