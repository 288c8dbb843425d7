"""One job of a sweep: what it varies, whether it is done already, and how it runs.

Every job writes ``job.json`` into its directory, when it starts and when it ends, and then rewrites the sweep's table.
Whatever happens to other jobs or to the process, what is done stays done and is in the table.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from kemr_lightning.core.config_migration import read_plain
from kemr_lightning.core.digests import data_digest, remembered_digest
from kemr_lightning.core.distributed import is_first
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.locks import locked
from kemr_lightning.core.overrides import number_or_text, split
from kemr_lightning.core.run_directory import JOBS_LOCK, LAST, METRICS, SWEEP_CONFIG, SWEEPS
from kemr_lightning.sweep.job_records import JobRecord, read_records
from kemr_lightning.sweep.sweep_table import write_table

logger = logging.getLogger(__name__)

FILES = ("knowledge", "init")
"""Keys that name a file on which, besides the checkpoint, the outcome of a job depends."""

TAG_LENGTH = 64
"""W&B's limit."""


@dataclass(frozen=True)
class Job:
    """The job that this process is running.

    Attributes:
        number: Hydra's number.
        sweep: The sweep's directory.
        overrides: As in `JobRecord`.
        varied: The overrides that the sweep's command varies, key -> value.
    """

    number: int
    sweep: Path
    overrides: list[str]
    varied: dict[str, str]

    @property
    def group(self) -> str:
        """The sweep's name: that of its directory, with the experiment's name before it if it is named by the time."""
        inside = self.sweep.parent
        return f"{inside.parent.name} {self.sweep.name}" if inside.name == SWEEPS else self.sweep.name

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
    """The overrides that are not in the sweep's command in this form: those for which it has lists or ranges."""
    try:
        # Hydra's own copy of the sweep's configuration, written before its first job.
        common = {str(item) for item in read_plain(sweep / SWEEP_CONFIG)["hydra"]["overrides"]["task"]}
    except (OSError, ValueError, TypeError, KeyError, YAMLError, OmegaConfBaseException):
        return dict(map(split, overrides))
    return dict(split(item) for item in overrides if item not in common)


def _given_file(config: DictConfig) -> Path | None:
    """The file that ``ckpt`` names, if it is one."""
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
        config: The job's configuration, which is changed: its run directory, if the usual one has another job's
            results; ``ckpt``, to the file it means; ``resume``, where a training was begun.
        task: Does the work.
        explain: For an error that a user can fix, one line that says how; None for others.
        find: The file that ``ckpt`` means.

    Returns:
        The task's score.

    Raises:
        Exception: Whatever the task raised; by then it is in the job's record and in the table.
    """
    checkpoint = _checkpoint(config, find)
    record = _claim(job, Path(config.paths.run_dir), _identity(job, config, checkpoint), checkpoint)
    what = " ".join(job.tags)
    directory = job.sweep / record.directory
    if record.status == "done":
        logger.info("job %d (%s) is done already (%s): skipped", record.number, what, directory)
        write_table(job.sweep)
        return record.score
    with open_dict(config):
        config.paths.run_dir = str(directory)
        if checkpoint is not None:
            config.ckpt = str(checkpoint)
        if config.get("ckpt") is None and _trains(config) and (directory / LAST).is_file():
            logger.info("job %d (%s) was interrupted: it resumes from %s", record.number, what, directory / LAST)
            config.resume = "auto"
    if not is_first():
        return task(config)
    return _run_recorded(job, record, lambda: task(config), explain)


def _claim(job: Job, usual: Path, identity: str, checkpoint: Path | None) -> JobRecord:
    """Find a job's place in the sweep, one job at a time.

    Args:
        job: The job.
        usual: The run directory that Hydra has chosen for it.
        identity: See `JobRecord`.
        checkpoint: See `JobRecord`.

    Returns:
        The record of the job that has done the same already, or a new one, which has been saved.
    """
    with locked(job.sweep / JOBS_LOCK):
        records = read_records(job.sweep)
        done = next((item for item in records if item.identity == identity and item.status == "done"), None)
        if done is not None:
            return done
        record = _new_record(job, usual, identity, records)
        record.checkpoint = None if checkpoint is None else str(checkpoint)
        if is_first():  # of several processes of the job, the first keeps the record
            (job.sweep / record.directory / METRICS).unlink(missing_ok=True)
            record.save(job.sweep)
        return record


def _new_record(job: Job, usual: Path, identity: str, records: Sequence[JobRecord]) -> JobRecord:
    """A job's new record; a job that was begun before keeps its number and directory.

    Otherwise they are the usual ones unless another job has them: a sweep that is started again with more values
    numbers its jobs differently.
    """
    begun = next((item for item in records if item.identity == identity), None)
    if begun is not None:
        return JobRecord(begun.number, job.overrides, job.varied, identity, directory=begun.directory)
    numbers = {item.number for item in records}
    number = job.number if job.number not in numbers else max(numbers) + 1
    taken = any(item.directory == usual.name for item in records)
    directory = f"{usual.name}-{identity[:8]}" if taken else usual.name
    return JobRecord(number, job.overrides, job.varied, identity, directory=directory)


def _run_recorded(
    job: Job, record: JobRecord, work: Callable[[], float | None], explain: Callable[[BaseException], str | None]
) -> float | None:
    """Do a job's work; however it ends, complete the job's record and rewrite the table.

    Args:
        job: The job.
        record: Its record.
        work: What to do.
        explain: As in `run`.
    """
    start, start_cpu = time.perf_counter(), time.process_time()
    try:
        record.score = work()
        record.status = "done"
        record.metrics = _metrics(job.sweep / record.directory)
        return record.score
    except Exception as error:
        said = " ".join(str(error).split())
        record.status, record.error = "failed", explain(error) or f"{type(error).__name__}: {said}"
        logger.error("job %d (%s) failed: %s", record.number, " ".join(job.tags), record.error)
        raise
    except BaseException:
        record.status = "interrupted"
        raise
    finally:
        record.seconds = round(time.perf_counter() - start, 2)
        record.cpu_seconds = round(time.process_time() - start_cpu, 2)
        record.save(job.sweep)
        write_table(job.sweep)


def _trains(config: DictConfig) -> bool:
    return "task" in config and config.task.name == "train"


def _checkpoint(config: DictConfig, find: Callable[[DictConfig], Path | None]) -> Path | None:
    """The checkpoint that the job works with; None if that is not decided beforehand.

    A training resolves ``last`` and ``best`` itself when it starts, since they may mean a checkpoint of its own. Here
    only a file that is given by its path counts for a training.
    """
    if _trains(config):
        return _given_file(config)
    try:
        return find(config)
    except UserError:
        return None  # the task will raise it again, and the job's record will have it


def _identity(job: Job, config: DictConfig, checkpoint: Path | None) -> str:
    """Digest of what the job does. Files count by their content: a retrained checkpoint makes another job."""
    parts = sorted(job.overrides)
    if checkpoint is not None:
        parts.append(remembered_digest(checkpoint))
    for key in FILES:
        given = config.get(key)
        if given is not None and Path(str(given)).is_file():
            parts.append(f"{key} {remembered_digest(str(given))}")
    return data_digest("\n".join(parts).encode())


def _metrics(directory: Path) -> dict[str, dict[str, float | None]]:
    """``initial`` and ``refined`` of a run's ``metrics.json``, as far as there are any."""
    file = directory / METRICS
    if not file.is_file():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    return {name: content[name] for name in ("initial", "refined") if name in content}
