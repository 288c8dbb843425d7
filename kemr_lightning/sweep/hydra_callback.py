"""Let the launching process know which sweep it runs, whatever launcher runs the jobs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, cast

from hydra.experimental.callback import Callback
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from kemr_lightning.core.credentials import refuse_credentials
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.locks import lock
from kemr_lightning.core.overrides import override
from kemr_lightning.core.run_directory import LAUNCH_LOCK
from kemr_lightning.sweep.conclusion import conclude

_started: list[Path] = []
"""Directories of the sweeps that this process is running."""

_held: dict[Path, int] = {}
"""The locks of these sweeps, by their directory."""


class SweepCallback(Callback):
    """Refuses credentials before Hydra writes the configuration; fixes the sweep's directory and remembers it.

    Hydra calls `on_multirun_end` only if no job has failed; `conclude_sweeps` does what has to be done at the end.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Called before a run outside sweeps.

        Raises:
            SystemExit: The configuration has credentials, from whatever file.
        """
        _refuse_credentials(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Called once, before the first job.

        Raises:
            SystemExit: The configuration has credentials, or another process of this machine is running the same sweep:
                both would do the same jobs.
        """
        _refuse_credentials(config)
        sweep = Path(to_absolute_path(config.hydra.sweep.dir))
        held = lock(sweep / LAUNCH_LOCK, wait=False)
        if held is None:
            # Hydra turns the exceptions of a callback into warnings, but not this one.
            sys.stderr.write(
                f"error: a sweep is running in {sweep}. Wait for its end, or give another hydra.sweep.dir=DIR\n"
            )
            raise SystemExit(2)
        _held[sweep] = held
        pin_directory(config, sweep)
        _started.append(sweep)


def _refuse_credentials(config: DictConfig) -> None:
    try:
        refuse_credentials(cast(dict[str, Any], OmegaConf.to_container(config, resolve=False)))
    except UserError as error:
        # Hydra turns the exceptions of a callback into warnings, but not this one.
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None


def pin_directory(config: DictConfig, sweep: Path) -> None:
    """Give all jobs of a sweep the same directory.

    Hydra composes the configuration of each job anew. A directory with ``${name}`` in it would differ between jobs
    that differ in ``name`` or ``experiment``.

    Args:
        config: The sweep's configuration, changed in place. Every job is given its ``hydra.overrides.hydra``.
        sweep: The sweep's directory.
    """
    with read_write(config), open_dict(config):
        config.hydra.sweep.dir = str(sweep)
        config.hydra.overrides.hydra.append(override("hydra.sweep.dir", sweep))


def conclude_sweeps() -> None:
    """Conclude the sweeps that this process has started, however they ended."""
    while _started:
        sweep = _started.pop()
        conclude(sweep)
        os.close(_held.pop(sweep))
