"""Know in the launching process which sweep is running, whatever launcher runs its jobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from hydra.utils import to_absolute_path
from omegaconf import DictConfig

from kemr_lightning.sweep.table import conclude

_started: list[Path] = []


class SweepCallback(Callback):
    """Remembers the sweep's directory. Hydra tells of a sweep's end only if no job failed; see `conclude_sweeps`."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:  # noqa: ARG002
        """Called once, before the first job."""
        _started.append(Path(to_absolute_path(config.hydra.sweep.dir)))


def conclude_sweeps() -> None:
    """Conclude the sweeps that this process has started, however they ended."""
    while _started:
        conclude(_started.pop())
