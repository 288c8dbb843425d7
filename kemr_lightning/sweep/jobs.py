"""One job of a sweep: what it varies, whether it is done already, and the record it leaves.

Every job writes ``job.json`` into its directory, when it starts and when it ends, and then the sweep's table anew.
Whatever happens to other jobs, or to the process, what is done stays done and is in the table.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf, open_dict

from kemr_lightning.core.digests import remembered_digest
from kemr_lightning.core.distributed import is_first
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import write_json
from kemr_lightning.core.locks import locked
from kemr_lightning.core.overrides import number_or_text, split
from kemr_lightning.core.run_directory import CONFIG, JOB, LAST, METRICS

logger = logging.getLogger(__name__)

MULTIRUN_FILE = "multirun.yaml"
"""Hydra's own copy of the sweep's configuration, written before its first job."""

LOCK = ".jobs"
"""Held by a job while it finds its place among the others."""

FILES = ("knowledge", "init")
"""Keys that name a file which decides, beside the checkpoint, what a job does."""

TAG_LENGTH = 64
"""W&B's limit."""


@dataclass
class JobRecord:
    """What is known of a job; the content of ``job.json``.

    Attributes:
        number: Hydra's number, or the next free one if an earlier command's job has that.
        overrides: All of them, as on the command line.
        varied: Those that differ between the jobs, key -> value. In a file what the job's own command varied; in
            `read_records` what differs between all records.
        identity: Digest of the overrides and of the content of the files they name: jobs of one identity do the same.
        status: ``running``, ``done``, ``failed`` or ``interrupted``.
        score: What the task returned.
        seconds: Wall-clock time.
        cpu_seconds: Processor time of the process that ran it.
        metrics: ``initial`` and ``refined`` of the job's ``metrics.json``.
        error: One line.
        directory: Name of its directory in the sweep's.
        checkpoint: The file that ``ckpt`` meant, where it was not a training's to resume.
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
        """Write ``job.json``."""
        write_json(sweep / self.directory / JOB, asdict(self), indent=1)

    @property
    def final(self) -> dict[str, float | None]:
        """The figures of the final masks."""
        return self.metrics.get("refined") or self.metrics.get("initial") or {}


@dataclass(frozen=True)
class Job:
    """The job that this process is running.

    Attributes:
        number: Hydra's number.
        sweep: The sweep's directory.
        overrides: As in `JobRecord`.
        varied: As in `JobRecord`.
    """

    number: int
    sweep: Path
    overrides: list[str]
    varied: dict[str, str]

    @property
    def group(self) -> str:
        """The sweep's name: that of its directory, with the experiment's for directories named by the time."""
        inside = self.sweep.parent
        return f"{inside.parent.name} {self.sweep.name}" if inside.name == "sweeps" else self.sweep.name

    @property
    def tags(self) -> list[str]:
        """The varied overrides, short enough for W&B."""
        return [f"{key}={value}"[:TAG_LENGTH] for key, value in self.varied.items()]

    def settings(self) -> dict[str, Any]:
        """All overrides, key -> value, numbers as numbers."""
        return {key: number_or_text(value) for key, value in map(split, self.overrides)}


def current() -> Job | None:
    """The job of a sweep that this process is running now, or None outside sweeps."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return None
    hydra = HydraConfig.get()
    sweep = Path(to_absolute_path(hydra.sweep.dir))
    overrides = [str(item) for item in hydra.overrides.task]
    return Job(int(hydra.job.num), sweep, overrides, _varied(sweep, overrides))


def _varied(sweep: Path, overrides: list[str]) -> dict[str, str]:
    """The overrides that the sweep's command does not have in this form: those it has lists or ranges for."""
    try:
        common = {str(item) for item in OmegaConf.load(sweep / MULTIRUN_FILE).hydra.overrides.task}
    except (OSError, AttributeError):
        return dict(map(split, overrides))
    return dict(split(item) for item in overrides if item not in common)


def _given_file(config: DictConfig) -> Path | None:
    given = config.get("ckpt")
    return Path(str(given)) if given is not None and Path(str(given)).is_file() else None


def run(
    job: Job,
    config: DictConfig,
    task: Callable[[DictConfig], float | None],
    explain: Callable[[BaseException], str | None] = lambda _: None,
    find: Callable[[DictConfig], Path | None] = _given_file,
) -> float | None:
    """Run a job, unless it is done already.

    Args:
        job: The job.
        config: Its configuration; its run directory is changed if another job's results are there, ``ckpt`` to the
            file it means, and ``ckpt`` and ``init`` where a training has been begun.
        task: Does the work.
        explain: The one line that tells a user what to mend, or None where an error is not the user's.
        find: The file that ``ckpt`` means.

    Returns:
        The task's score.

    Raises:
        Exception: Whatever the task raised; it is in the job's record and the table then.
    """
    from kemr_lightning.sweep.table import write_table

    checkpoint = _checkpoint(config, find)
    identity = _identity(job, config, checkpoint)
    what = " ".join(job.tags)
    with locked(job.sweep / LOCK):
        records = read_records(job.sweep)
        done = next((item for item in records if item.identity == identity and item.status == "done"), None)
        if done is None:
            record = _begin(job, Path(config.paths.run_dir), identity, records)
            record.checkpoint = None if checkpoint is None else str(checkpoint)
            own = job.sweep / record.directory
            if is_first():  # of several processes of the job, the first keeps the record
                (own / METRICS).unlink(missing_ok=True)
                record.save(job.sweep)
    if done is not None:
        logger.info("job %d (%s) is done already (%s): skipped", done.number, what, job.sweep / done.directory)
        write_table(job.sweep)
        return done.score
    with open_dict(config):
        config.paths.run_dir = str(own)
        if checkpoint is not None:
            config.ckpt = str(checkpoint)
        if config.get("ckpt") is None and _trains(config) and (own / LAST).is_file():
            logger.info("job %d (%s) was interrupted: it goes on from %s", record.number, what, own / LAST)
            config.ckpt, config.init = str(own / LAST), None
    if not is_first():
        return task(config)
    start, start_cpu = time.perf_counter(), time.process_time()
    try:
        record.score = task(config)
        record.status = "done"
        record.metrics = _metrics(own)
        return record.score
    except Exception as error:
        said = " ".join(str(error).split())
        record.status, record.error = "failed", explain(error) or f"{type(error).__name__}: {said}"
        logger.error("job %d (%s) failed: %s", record.number, what, record.error)
        raise
    except BaseException:
        record.status = "interrupted"
        raise
    finally:
        record.seconds = round(time.perf_counter() - start, 2)
        record.cpu_seconds = round(time.process_time() - start_cpu, 2)
        record.save(job.sweep)
        write_table(job.sweep)


def _begin(job: Job, usual: Path, identity: str, records: Sequence[JobRecord]) -> JobRecord:
    """A job's new record, with the number and the directory it had if it was begun before.

    Otherwise these are the usual ones unless they are another job's: a sweep that is started again with more values
    counts its jobs differently.
    """
    begun = next((item for item in records if item.identity == identity), None)
    if begun is not None:
        return JobRecord(begun.number, job.overrides, job.varied, identity, directory=begun.directory)
    numbers = {item.number for item in records}
    number = job.number if job.number not in numbers else max(numbers) + 1
    taken = any(item.directory == usual.name for item in records)
    directory = f"{usual.name}-{identity[:8]}" if taken else usual.name
    return JobRecord(number, job.overrides, job.varied, identity, directory=directory)


def _trains(config: DictConfig) -> bool:
    return "task" in config and config.task.name == "train"


def _checkpoint(config: DictConfig, find: Callable[[DictConfig], Path | None]) -> Path | None:
    """The checkpoint that the job works with, None if that is not decided beforehand.

    A training resumes from what ``last`` and ``best`` mean when it starts, which may be its own: they stay names there.
    """
    if _trains(config):
        return _given_file(config)
    try:
        return find(config)
    except UserError:
        return None  # the task finds out for itself, and its record says so


def _identity(job: Job, config: DictConfig, checkpoint: Path | None) -> str:
    """Digest of what the job does. Files count by their content: a retrained checkpoint makes another job."""
    parts = sorted(job.overrides)
    if checkpoint is not None:
        parts.append(remembered_digest(checkpoint))
    for key in FILES:
        given = config.get(key)
        if given is not None and Path(str(given)).is_file():
            parts.append(f"{key} {remembered_digest(str(given))}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _metrics(directory: Path) -> dict[str, dict[str, float | None]]:
    file = directory / METRICS
    if not file.is_file():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    return {name: content[name] for name in ("initial", "refined") if name in content}


def read_records(sweep: Path) -> list[JobRecord]:
    """The records of all jobs of a sweep, by number; unreadable ones are reported and left out.

    What they vary follows from all of them together: a sweep that is started again may vary other keys than before.
    """
    records = []
    for file in sweep.glob(f"*/{JOB}"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            records.append(JobRecord(**{**content, "directory": file.parent.name}))
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s cannot be read (%s): the job is run again", file, error)
    _compare(sweep, records)
    return sorted(records, key=lambda item: (item.number, item.directory))


def _compare(sweep: Path, records: Sequence[JobRecord]) -> None:
    """Set what each job varies: all keys that any two jobs differ in, or that a command had a list for."""
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
    """The value of a key that a job was not given: its configuration's, or nothing if that is not a single value."""
    file = directory / CONFIG
    try:
        value = OmegaConf.select(_read_config(file, file.stat().st_mtime_ns), key)
    except Exception:  # no such file or key, or a damaged file, of which a cell of a table is not the place to tell
        return ""
    if isinstance(value, float) and value.is_integer():
        return f"{value:.0f}"
    return str(value) if isinstance(value, str | int | float) else ""


@lru_cache(maxsize=4096)
def _read_config(file: Path, changed: int) -> Any:
    del changed
    return OmegaConf.load(file)
