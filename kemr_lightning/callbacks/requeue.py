"""Under Slurm, when the time limit nears: save after the current step and requeue the job.

The requeued job finds what was saved by `kemr_lightning.assembly.resuming.state_to_resume`.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from typing_extensions import override

from kemr_lightning.callbacks.stopping import is_between_steps, log_step, save_between_steps
from kemr_lightning.core.run_directory import LAST_NAME

logger = logging.getLogger(__name__)

SIGNAL = signal.SIGUSR1
JOB = "SLURM_JOB_ID"


class RequeueCallback(pl.Callback):
    """On SIGUSR1 (``sbatch --signal=SIGUSR1@180``) saves ``last.ckpt`` after the current step and requeues the job.

    Lightning's own handler, which is only installed if there is no other one, saves at once, wherever each process is:
    if one is still in its forward pass while another waits for its gradients, both wait forever. Here all processes
    agree between two steps. Outside Slurm it does nothing. It must come after callbacks that change what is saved.

    Args:
        directory: The folder for ``last.ckpt``.
    """

    def __init__(self, directory: str | Path) -> None:
        self.path = Path(directory) / LAST_NAME
        self.asked = False
        self._installed = False

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit" and JOB in os.environ and threading.current_thread() is threading.main_thread():
            there = signal.getsignal(SIGNAL)
            # A training that has failed leaves its handler behind.
            left = isinstance(getattr(there, "__self__", None), RequeueCallback)
            if there in (signal.SIG_DFL, None) or left:
                signal.signal(SIGNAL, self._ask)
                self._installed = True

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._installed:
            signal.signal(SIGNAL, signal.SIG_DFL)
            self._installed = False

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self._installed or not trainer.strategy.reduce_boolean_decision(self.asked, all=False):
            return
        self.asked = True  # in all processes, if this step has to be followed by others
        if not is_between_steps(trainer):
            return
        self.asked = False
        save_between_steps(trainer, self.path)
        done = trainer.strategy.broadcast(requeue(os.environ[JOB]) if trainer.is_global_zero else False)
        if done:
            log_step(trainer)
            logger.warning("step %d is saved and job %s queued again", trainer.global_step, os.environ[JOB])
            raise SystemExit(0)

    def _ask(self, number: int, frame: Any) -> None:  # noqa: ARG002
        self.asked = True


def requeue(job: str) -> bool:
    """Ask Slurm to run a job again, from its beginning and under the same number.

    Args:
        job: ``SLURM_JOB_ID``.

    Returns:
        Whether Slurm agreed. If not, the reason is logged.
    """
    try:
        asked = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    except OSError as error:
        logger.warning("job %s cannot be queued again: %s", job, error)
        return False
    if asked.returncode:
        logger.warning("job %s cannot be queued again: %s", job, " ".join((asked.stdout + asked.stderr).split()))
    return asked.returncode == 0
