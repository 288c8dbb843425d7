"""Steps whose loss or gradient is not finite: saved to be replayed, then the training ends or skips them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from kemr_lightning.core.distributed import from_all
from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.run_directory import NON_FINITE
from kemr_lightning.training.attempt import Attempt
from kemr_lightning.training.module import DivergedError, SegmentationModule
from kemr_lightning.training.reproduction import Reproduction, bad_gradients

logger = logging.getLogger(__name__)

SAVED = 3
"""So many skipped steps are saved; a training that skips hundreds does not fill the disk."""


class FiniteLossCallback(Callback):
    """Keeps steps with a loss or gradient that is not finite from changing anything.

    Such a step is saved as a `Reproduction` under ``non_finite/``. Then the training ends, or goes on with the next
    step if ``skip`` allows it. A skipped step counts as a step, and the schedule goes on; weights, the optimiser's
    state, averaged weights and the statistics of batch normalisation stay as they were. All processes of a training
    decide alike. With a gradient scaler (``trainer.precision=16-mixed``), which skips steps by itself while it looks
    for its scale, only losses are checked.

    Args:
        directory: The run directory.
        skip: How many such steps a training may skip, over all its parts if it is resumed.

    Raises:
        SettingError: ``skip`` is not a whole number from 0.
    """

    def __init__(self, directory: str | Path, skip: int = 0) -> None:
        if isinstance(skip, bool) or not isinstance(skip, int) or skip < 0:
            raise SettingError("skip", skip, "is not a number of steps", "Give a whole number, 0 to skip none")
        self.directory = Path(directory) / NON_FINITE
        self.skip = skip
        self.skipped = 0
        self._before: dict[str, Tensor] = {}

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            _ours(pl_module).attempts = []

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        _ours(pl_module).attempts = None
        self._before = {}

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = int(state_dict["skipped"])

    @override
    @torch.no_grad()
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        module = _ours(pl_module)
        if module.attempts:  # gradients are accumulated: the step goes on
            return
        module.step_skipped = False
        # A forward pass changes the statistics of batch normalisation before its loss is known.
        buffers = dict(module.named_buffers())
        if self._before.keys() != buffers.keys():
            self._before = {name: buffer.clone() for name, buffer in buffers.items()}
        for name, buffer in buffers.items():
            self._before[name].copy_(buffer)

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        module = _ours(pl_module)
        attempts, module.attempts = module.attempts or [], []
        gradients: list[str] = []
        if all(attempt.finite for attempt in attempts):
            # With several processes these are the averaged gradients, the same in all of them.
            scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
            gradients = [] if scaled else bad_gradients(module)
            if not gradients:
                return
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(self._before[name])
        optimizer.zero_grad(set_to_none=True)  # without gradients, clipping and the optimiser do nothing
        complaint = self._complaint(attempts, gradients)
        stops = self.skipped >= self.skip
        where = self._save(trainer, module, attempts, gradients) if stops or self.skipped < SAVED else ""
        # One message for all processes, so that whichever is heard names the images.
        told = [part for part in dict.fromkeys(from_all(f"{complaint}{where}")) if part]
        message = f"step {trainer.global_step}: {'; '.join(told)}"
        if stops:
            after = f" after {self.skipped} skipped steps" if self.skipped else ""
            raise DivergedError(f"{message}{after}. {DivergedError.CURE}, or skip such steps")
        self.skipped += 1
        module.step_skipped = True
        logger.warning("%s; skipped, number %d of at most %d", message, self.skipped, self.skip)

    def _complaint(self, attempts: list[Attempt], gradients: list[str]) -> str:
        """What is wrong in this process; nothing if it is in another one."""
        bad = [attempt.complaint() for attempt in attempts if attempt.bad_terms]
        if not gradients:
            return "; ".join(bad)
        names = ", ".join(sample.name for attempt in attempts for sample in attempt.samples)
        more = ", ..." if len(gradients) > 3 else ""
        return f"the gradient of {', '.join(gradients[:3])}{more} is not finite (images {names})"

    def _save(
        self, trainer: pl.Trainer, module: SegmentationModule, attempts: list[Attempt], gradients: list[str]
    ) -> str:
        """Save the step if its fault is in this process, and say where."""
        if not gradients and not any(attempt.bad_terms for attempt in attempts):
            return ""
        of = f"_process_{trainer.global_rank}" if trainer.world_size > 1 else ""
        path = self.directory / f"step_{trainer.global_step}{of}.safetensors"
        origin = {
            "epoch": trainer.current_epoch,
            "seed": os.environ.get("PL_GLOBAL_SEED"),
            "precision": str(trainer.precision),
            "device": str(module.device),
            "torch": str(torch.__version__),
        }
        step = Reproduction(
            trainer.global_step, module.config, module.label_names, module.state_dict(), attempts, gradients, origin
        )
        try:
            step.save(path)
        except OSError as error:
            return f", could not be saved ({error.strerror or error})"
        return f", saved as {path}"


def _ours(module: pl.LightningModule) -> SegmentationModule:
    return cast(SegmentationModule, module)
