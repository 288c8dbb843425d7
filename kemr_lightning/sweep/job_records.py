"""The record that a job of a sweep leaves in its directory, and what follows from all records together."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from kemr_lightning.core.config_migration import read_run_config
from kemr_lightning.core.files import write_json
from kemr_lightning.core.overrides import number_or_text, split
from kemr_lightning.core.run_directory import CONFIG, JOB

logger = logging.getLogger(__name__)


@dataclass
class JobRecord:
    """What is known of a job; the content of ``job.json``.

    Attributes:
        number: Hydra's number of the job, or the next free one if a job of an earlier command has that number.
        overrides: All overrides of the job, as on the command line.
        varied: The overrides that differ between jobs, key -> value. In the file these are the keys that the job's own
            command varied; `read_records` replaces them by all keys that differ between any two records.
        identity: Digest of the overrides and of the content of the files they name: jobs with the same identity do
            the same.
        status: ``running``, ``done``, ``failed`` or ``interrupted``.
        score: What the task returned.
        seconds: Wall-clock time.
        cpu_seconds: Processor time of the process that ran the job.
        metrics: ``initial`` and ``refined`` of the job's ``metrics.json``.
        error: Why the job failed, on one line.
        directory: Name of the job's directory within the sweep's.
        checkpoint: The file that ``ckpt`` meant, unless it is that of a training to resume.
    """

    number: int
    overrides: list[str]
    varied: dict[str, str]
    identity: str
    status: str = "running"
    score: float | None = None
    seconds: float | None = None
    cpu_seconds: float | None = None
    metrics: dict[str, dict[str, float | None]] = field(default_factory=dict)
    error: str | None = None
    directory: str = ""
    checkpoint: str | None = None

    def save(self, sweep: Path) -> None:
        """Write ``job.json``.

        Args:
            sweep: The sweep's directory.
        """
        write_json(sweep / self.directory / JOB, asdict(self), indent=1)

    @property
    def final(self) -> dict[str, float | None]:
        """The figures of the final masks; empty if there are none."""
        return self.metrics.get("refined") or self.metrics.get("initial") or {}


def read_records(sweep: Path) -> list[JobRecord]:
    """The records of all jobs of a sweep, ordered by number.

    Records that cannot be read are reported and left out. What the jobs vary is found from all records together: a
    sweep that is started again may vary other keys than before.

    Args:
        sweep: The sweep's directory.
    """
    records = []
    for file in sweep.glob(f"*/{JOB}"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            records.append(JobRecord(**{**content, "directory": file.parent.name}))
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s cannot be read (%s): the job is run again", file, error)
    _find_varied(sweep, records)
    return sorted(records, key=lambda item: (item.number, item.directory))


def varied_keys(records: Sequence[JobRecord]) -> list[str]:
    """The keys that the jobs vary, in the order of their overrides."""
    return list(dict.fromkeys(key for item in records for key in item.varied))


def _find_varied(sweep: Path, records: Sequence[JobRecord]) -> None:
    """Set what each job varies: all keys in which any two jobs differ, or that a command had a list for."""
    given = [dict(map(split, item.overrides)) for item in records]
    listed = {key for item in records for key in item.varied}
    varied = []
    for key in dict.fromkeys(key for own in given for key in own):
        values = {number_or_text(own[key]) if key in own else None for own in given}
        if len(values) > 1 or key in listed:
            varied.append(key)
    for item, own in zip(records, given, strict=True):
        item.varied = {key: own[key] if key in own else _configured(sweep / item.directory, key) for key in varied}


def _configured(directory: Path, key: str) -> str:
    """The value in a job's configuration of a key that it was not given; empty if that is not a single value."""
    file = directory / CONFIG
    try:
        value = OmegaConf.select(_read_config(file, file.stat().st_mtime_ns), key)
    except Exception:  # no such file or key, or a damaged file: a cell of a table is not the place to report it
        return ""
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    return str(value) if isinstance(value, str | int | float) else ""


@lru_cache(maxsize=4096)
def _read_config(file: Path, changed: int) -> Any:
    del changed
    return read_run_config(file)
