"""``metrics.csv`` in the run directory, which a resumed run continues."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from typing_extensions import override


class ContinuedWriter(ExperimentWriter):
    """Lightning's writer, but it keeps the rows of an earlier part of the run."""

    @override
    def _check_log_dir_exists(self) -> None:
        file = Path(self.metrics_file_path)
        if file.is_file():
            with file.open(newline="") as stream:
                self.metrics_keys = next(csv.reader(stream), [])


class ContinuedCSVLogger(CSVLogger):
    """Lightning's CSV logger, which writes ``metrics.csv`` and ``hparams.yaml`` directly into a directory.

    Lightning's own deletes an existing file, and with it the curves of a run that is resumed in its directory.

    Args:
        save_dir: The run directory.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__(save_dir, name="", version="")

    @property
    @rank_zero_experiment
    @override
    def experiment(self) -> Any:
        """The writer, created on first use."""
        if self._experiment is None:
            self._experiment = ContinuedWriter(log_dir=self.log_dir)
        return self._experiment
