"""Ctrl-C and SIGTERM during a training: finish the step, save ``last.ckpt``, leave with 130 or 143."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override

from kemr_lightning.core import signals
from kemr_lightning.core.run_directory import LAST_NAME

logger = logging.getLogger(__name__)


class StoppingCallback(pl.Callback):
    """On SIGINT or SIGTERM saves ``last.ckpt`` after the current step and ends the process with 130 or 143.

    Lightning's own handlers interrupt a step wherever it is and save nothing. Here the step is finished, and all
    processes agree. If a validation is due or running, it and one more step come first: a training that resumes
    behind a step whose validation is missing would never make up for it. A second signal ends the process at once. It
    must come after callbacks that change what is saved.

    Args:
        directory: The folder for ``last.ckpt``.
    """

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / LAST_NAME
        self.asked = 0
        """Number of the signal that has come, 0 if there was none."""
        self._before: dict[int, signals.Handler] = {}

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not earlier: Lightning installs its own handlers just before.
        self.asked = 0
        self._before = signals.handle(self._ask)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        asked = agreed(trainer, self.asked)
        if asked and is_between_steps(trainer):
            log_step(trainer)
            save_between_steps(trainer, self.path)
            self._leave(asked)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # The checkpoint callback has saved the end of the training; what would follow is the test.
        asked = agreed(trainer, self.asked)
        if asked:
            self._leave(asked)
        self._restore()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        done = trainer.fit_loop.epoch_loop.batch_progress.total
        if self.asked and isinstance(exception, RuntimeError) and done.ready == done.completed:
            # While this process waited for a batch, the signal ended the workers that were to make it.
            save_between_steps(trainer, self.path)
            self._leave(self.asked)
        self._restore()

    def _ask(self, number: int, frame: Any) -> None:  # noqa: ARG002
        self.asked = number
        signals.end_at_once_next_time()
        # A signal to all processes of a group has ended the loaders' workers; PyTorch would end this one for that.
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        logger.warning("%s: stopping after this step; a second signal ends at once", signal.Signals(number).name)

    def _restore(self) -> None:
        if not self.asked:
            signals.restore(self._before)
        self._before = {}

    def _leave(self, number: int) -> None:
        sys.exit(signals.exit_code(number))


def agreed(trainer: pl.Trainer, asked: int) -> int:
    """The signal that any of the processes has been sent, the same in all of them; 0 if there was none.

    Args:
        trainer: The trainer.
        asked: The number of this process's signal, or 0.
    """
    if trainer.world_size == 1:
        return asked
    for number in signals.ENDING:
        if trainer.strategy.reduce_boolean_decision(asked == number, all=False):
            return int(number)
    return 0


def is_between_steps(trainer: pl.Trainer) -> bool:
    """Whether a training can be saved at the end of this batch and resumed without a difference.

    It cannot if gradients are being accumulated, which no checkpoint holds, or if a validation is due.

    Args:
        trainer: It calls ``on_train_batch_end``.
    """
    loop = trainer.fit_loop.epoch_loop
    fetcher = trainer.fit_loop._data_fetcher
    due = fetcher is not None and loop._should_check_val_fx(fetcher)
    return not (due or loop._should_accumulate())


def save_between_steps(trainer: pl.Trainer, path: Path) -> None:
    """Save the state of a training at the end of a step, in all processes.

    Args:
        trainer: It calls ``on_train_batch_end``.
        path: The file.
    """
    for each in trainer.loggers:
        each.save()
    trainer.save_checkpoint(path)
    keeper = trainer.checkpoint_callback
    if isinstance(keeper, ModelCheckpoint):
        keeper.last_model_path = str(path)


def log_step(trainer: pl.Trainer) -> None:
    """Log a step from ``on_train_batch_end``, for callbacks that end the process: Lightning does so after them."""
    trainer._logger_connector.update_train_step_metrics()
