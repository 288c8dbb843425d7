"""Progress of a run: a bar in a terminal, elsewhere a log line at intervals."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities.types import STEP_OUTPUT
from rich import get_console
from typing_extensions import override

from kemr_lightning.output.loss_kinds import kind_of_loss

logger = logging.getLogger(__name__)


class ProgressCallback(RichProgressBar):
    """Lightning's rich bar with the losses and the last MaskAP; it spans the whole run if that is counted in steps.

    Where the output is not a terminal (a file, a batch system), a line with the same content is logged at intervals
    instead. In it ``gone`` is the elapsed and ``to go`` the estimated remaining time.

    Args:
        seconds_between_lines: Time between two such lines.
        refresh_rate: How often the bar is drawn, per second.
    """

    def __init__(self, seconds_between_lines: float = 30.0, refresh_rate: int = 5) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self.seconds_between_lines = seconds_between_lines
        self.terminal = get_console().is_terminal
        self._last_line = self._started = time.monotonic()
        self._first_step = 0
        if not self.terminal:
            self.disable()

    @override
    def enable(self) -> None:
        if self.terminal:
            super().enable()

    @property
    @override
    def total_train_batches(self) -> int | float:
        # Lightning's bar starts again with each epoch, and a run of 2,500 steps may have 80 short epochs.
        return self.trainer.max_steps if self._in_steps else super().total_train_batches

    @property
    def _in_steps(self) -> bool:
        return self.trainer.max_steps > 0

    @override
    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        return {name: f"{value:.3g}" if value < 10 else f"{value:.1f}" for name, value in shown(trainer).items()}

    def _get_train_description(self, current_epoch: int) -> str:
        return "Training  " if self._in_steps else super()._get_train_description(current_epoch)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last_line = self._started = time.monotonic()
        self._first_step = trainer.global_step
        super().on_train_start(trainer, pl_module)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(
            trainer, pl_module, outputs, batch, trainer.global_step - 1 if self._in_steps else batch_idx
        )
        if time.monotonic() - self._last_line >= self.seconds_between_lines:
            self._line(trainer)

    @override
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        if self._in_steps and self.train_progress_bar_id is not None:
            self._update(self.train_progress_bar_id, trainer.global_step)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._line(trainer)

    def _line(self, trainer: pl.Trainer) -> None:
        """Log a line, if there is no terminal for the bar."""
        if self.terminal or not trainer.is_global_zero:
            return
        self._last_line = now = time.monotonic()
        step = trainer.global_step
        done = f"step {step}"
        if self._in_steps:
            left = (trainer.max_steps - step) * (now - self._started) / max(step - self._first_step, 1)
            done += f"/{trainer.max_steps}, {duration(now - self._started)} gone, {duration(left)} to go"
        else:
            done += f", epoch {trainer.current_epoch + 1}/{trainer.max_epochs}, {duration(now - self._started)} gone"
        figures = "  ".join(f"{name} {value:.4g}" for name, value in shown(trainer).items())
        logger.info("%s  %s", done, figures)


def shown(trainer: pl.Trainer) -> dict[str, float]:
    """What progress shows: the losses of the last step, summed by kind, and the last validation's MaskAP and gain."""
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    losses: dict[str, float] = {}
    for name, value in values.items():
        kind = kind_of_loss(name)
        if kind is not None:
            losses[kind] = losses.get(kind, 0.0) + value
    total = {"loss": losses.pop("total")} if "total" in losses else {}
    figures = {"MaskAP": "val/MaskAP", "gain": "val/gain/MaskAP"}
    return total | losses | {short: values[name] for short, name in figures.items() if name in values}


def duration(seconds: float) -> str:
    """A time as ``1:05:09`` or ``5:09``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
