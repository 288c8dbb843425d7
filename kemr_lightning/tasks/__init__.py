"""Tasks: what ``task=NAME`` does. One file each, named by ``task.function`` in ``conf/task/NAME.yaml``."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import cast

import hydra
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kemr_lightning.assembly.schema.check import check_config
from kemr_lightning.core.distributed import is_first, quieten_others
from kemr_lightning.core.errors import cause_of
from kemr_lightning.core.files import disk_trouble, remove_unfinished
from kemr_lightning.core.locks import alone_in
from kemr_lightning.core.signals import ended_in_order
from kemr_lightning.data.loading import killed_worker
from kemr_lightning.sweep import jobs

logger = logging.getLogger(__name__)

MOST = 400
"""Letters of a message of Lightning's that are printed."""


def run(config: DictConfig) -> float | None:
    """Run the task a configuration asks for.

    Args:
        config: The composed configuration; ``task.function`` names a function that takes it.

    Returns:
        What the task returns: a figure to maximise in a sweep, or None.

    Raises:
        SystemExit: With code 2 and one line on the standard error, where the user can fix what is wrong. A sweep's job
            raises the error itself: `SystemExit` would end the jobs that follow. With code 130 or 143 after Ctrl-C or
            SIGTERM, which end a whole sweep.
    """
    _quieten()
    quieten_others()
    with ended_in_order():
        return _run(config)


def _run(config: DictConfig) -> float | None:
    job = jobs.current()
    if job is not None:
        from kemr_lightning.assembly.checkpoints import find_checkpoint  # late: it imports all that tasks need

        return jobs.run(job, config, _call, user_message, find_checkpoint)
    try:
        return _call(config)
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        sys.stderr.write(f"error: {message}\n")
        logger.debug("the error above came from here", exc_info=True)
        raise SystemExit(2) from None


def _call(config: DictConfig) -> float | None:
    check_config(config)
    task = cast(Callable[[DictConfig], float | None], hydra.utils.get_method(config.task.function))
    directory = Path(config.paths.run_dir)
    if not is_first():  # the first of a training's processes holds the lock for all
        return task(config)
    with alone_in(directory):
        remove_unfinished(directory)
        return task(config)


def _quieten() -> None:
    """Silence Lightning's notes on devices and workers, which would hide in every run what a user should read."""
    import lightning.pytorch  # noqa: F401  (sets its own levels and handlers when it is first imported)

    logging.raiseExceptions = False  # a full disk that cannot take the log either is reported in one line
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)


def user_message(error: BaseException) -> str | None:
    """The one line to print for an error that a user can fix, or None for a fault of the program.

    A `UserError` from a constructor comes wrapped by Hydra, so the chain of causes is searched. A wrong value in the
    configuration itself (a missing key, a bad interpolation) is the user's as well, and so are what Lightning refuses
    and a process that the operating system killed.
    """
    cause = cause_of(error)
    if cause is not None:
        return " ".join(str(cause).split())
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # late: it takes seconds

    if isinstance(error, MisconfigurationException):
        return f"trainer: {' '.join(str(error).split())[:MOST]}"
    trouble = disk_trouble(error) if isinstance(error, OSError) else None
    if trouble is not None:
        return str(trouble)
    if isinstance(error, OmegaConfBaseException):
        return f"configuration: {str(error).splitlines()[0]}"
    died = killed_worker(error)
    cure = "If the memory was full, lower data.num_workers, data.cache_mb or data.batch_size"
    return None if died is None else f"{died}. {cure}"
