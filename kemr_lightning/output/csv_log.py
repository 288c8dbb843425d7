"""``metrics.csv`` in the run directory, which a resumed run continues."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from kemr_lightning.core.files import WriteError, atomic_write

logger = logging.getLogger(__name__)


class ContinuedWriter(ExperimentWriter):
    """Lightning's writer, but it keeps the rows of an earlier part of the run, and writes the file whole."""

    rows: list[dict[str, Any]]

    @override
    def _check_log_dir_exists(self) -> None:
        """Read the rows that are there; one that a killed process has not completed is left out."""
        self.rows = []
        file = Path(self.metrics_file_path)
        if file.is_file():
            with file.open(newline="") as stream:
                table = csv.DictReader(stream)
                self.rows = [row for row in table if None not in row and None not in row.values() and _step(row) >= 0]
                self.metrics_keys = list(table.fieldnames or ())

    @override
    def save(self) -> None:
        """Write all rows, if there are new ones."""
        if self.metrics:
            self._record_new_keys()
            self.rows, self.metrics = [*self.rows, *self.metrics], []
            self._write()

    def rewind(self, step: int) -> None:
        """Forget the rows of a step and of those after it, and of a test, which comes after all of them."""
        kept = [row for row in self.rows if _step(row) < step and not _is_test(row)]
        if len(kept) < len(self.rows):
            self.rows = kept
            self._write()

    def _write(self) -> None:
        with (
            atomic_write(Path(self.metrics_file_path)) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as stream,
        ):
            table = csv.DictWriter(stream, self.metrics_keys)
            table.writeheader()
            table.writerows(self.rows)


def _step(row: dict[str, Any]) -> int:
    """The step of a row; -1 for a row without one."""
    try:
        return int(row["step"])
    except (KeyError, ValueError):
        return -1


def _is_test(row: dict[str, Any]) -> bool:
    return any(key.startswith("test/") and value not in ("", None) for key, value in row.items())


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

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Forget what was logged of a step, of those after it and of a test: a resumed training takes them again.

        Args:
            step: The first step, from 0.

        Raises:
            WriteError: The file cannot be written.
        """
        self.experiment.rewind(step)

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        try:
            super().finalize(status)
        except WriteError as error:
            # What ends the run is reported by itself, and a full disk has been.
            logger.debug("%s", error)
