"""One job of a sweep: what it varies, whether it is done already, and the record it leaves.

Every job writes ``job.json`` into its directory, when it starts and when it ends, and then the sweep's table anew.
Whatever happens to other jobs, or to the process, what is done stays done and is in the table.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import to_absolute_path
from omegaconf import DictConfig, OmegaConf, open_dict

from kemr_lightning.distributed import is_first
from kemr_lightning.output.coco_results import METRICS
from kemr_lightning.output.files import write_json
from kemr_lightning.store import checkpoint_digest

logger = logging.getLogger(__name__)

JOB_FILE = "job.json"
MULTIRUN_FILE = "multirun.yaml"
"""Hydra's own copy of the sweep's configuration, written before its first job."""

LAST = "checkpoints/last.ckpt"
"""Where a training that was interrupted goes on from."""

TAG_LENGTH = 64
"""W&B's limit."""


@dataclass
class JobRecord:
    """What is known of a job; the content of ``job.json``.

    Attributes:
        number: Hydra's number.
        overrides: All of them, as on the command line.
        varied: Those that differ between the jobs, key -> value.
        identity: Digest of the overrides and of the checkpoint's content: jobs of one identity do the same.
        status: ``running``, ``done``, ``failed`` or ``interrupted``.
        score: What the task returned.
        seconds: Wall-clock time.
        cpu_seconds: Processor time of the process that ran it.
        metrics: ``initial`` and ``refined`` of the job's ``metrics.json``.
        error: One line.
        directory: Name of its directory in the sweep's.
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

    def save(self, sweep: Path) -> None:
        """Write ``job.json``."""
        write_json(sweep / self.directory / JOB_FILE, asdict(self), indent=1)

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
        return {key: plain(value) for key, value in map(split, self.overrides)}


def split(override: str) -> tuple[str, str]:
    """``key`` and ``value`` of an override; signs and quotes are left out."""
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value.strip("'\"")


def plain(value: str) -> float | int | str:
    """A value as a number where it is one."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


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


def run(
    job: Job,
    config: DictConfig,
    task: Callable[[DictConfig], float | None],
    explain: Callable[[BaseException], str | None] = lambda _: None,
) -> float | None:
    """Run a job, unless it is done already.

    Args:
        job: The job.
        config: Its configuration; its run directory is changed if another job's results are there, and ``ckpt`` and
            ``init`` where a training has been begun.
        task: Does the work.
        explain: The one line that tells a user what to mend, or None where an error is not the user's.

    Returns:
        The task's score.

    Raises:
        Exception: Whatever the task raised; it is in the job's record and the table then.
    """
    from kemr_lightning.sweep.table import write_table

    identity = _identity(job, config)
    records = read_records(job.sweep)
    done = next((item for item in records if item.identity == identity and item.status == "done"), None)
    what = " ".join(job.tags)
    if done is not None:
        logger.info("job %d (%s) is done already (%s): skipped", job.number, what, job.sweep / done.directory)
        write_table(job.sweep)
        return done.score
    record = JobRecord(job.number, job.overrides, job.varied, identity)
    own = _directory(Path(config.paths.run_dir), identity, records)
    with open_dict(config):
        config.paths.run_dir = str(own)
        if config.get("ckpt") is None and _trains(config) and (own / LAST).is_file():
            logger.info("job %d (%s) was interrupted: it goes on from %s", job.number, what, own / LAST)
            config.ckpt, config.init = str(own / LAST), None
    if not is_first():
        return task(config)  # one of several processes of the job, of which the first keeps the record
    record.directory = own.name
    (own / METRICS).unlink(missing_ok=True)
    record.save(job.sweep)
    start, start_cpu = time.perf_counter(), time.process_time()
    try:
        record.score = task(config)
        record.status = "done"
        record.metrics = _metrics(own)
        return record.score
    except Exception as error:
        said = " ".join(str(error).split())
        record.status, record.error = "failed", explain(error) or f"{type(error).__name__}: {said}"
        logger.error("job %d (%s) failed: %s", job.number, what, record.error)
        raise
    except BaseException:
        record.status = "interrupted"
        raise
    finally:
        record.seconds = round(time.perf_counter() - start, 2)
        record.cpu_seconds = round(time.process_time() - start_cpu, 2)
        record.save(job.sweep)
        write_table(job.sweep)


def _directory(usual: Path, identity: str, records: list[JobRecord]) -> Path:
    """Where a job runs: where it was begun, else in the usual directory unless that is another job's.

    A sweep that is started again with more values counts its jobs differently.
    """
    begun = next((item.directory for item in records if item.identity == identity), None)
    if begun is not None:
        return usual.with_name(begun)
    taken = any(item.directory == usual.name for item in records)
    return usual.with_name(f"{usual.name}-{identity[:8]}") if taken else usual


def _trains(config: DictConfig) -> bool:
    return "task" in config and config.task.name == "train"


def _identity(job: Job, config: DictConfig) -> str:
    """Digest of what the job does. A checkpoint counts by its content: a retrained one makes another job."""
    parts = sorted(job.overrides)
    given = config.get("ckpt")
    if given is not None and Path(str(given)).is_file():
        parts.append(checkpoint_digest(str(given)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _metrics(directory: Path) -> dict[str, dict[str, float | None]]:
    file = directory / METRICS
    if not file.is_file():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    return {name: content[name] for name in ("initial", "refined") if name in content}


def read_records(sweep: Path) -> list[JobRecord]:
    """The records of all jobs of a sweep, by number; unreadable ones are reported and left out."""
    records = []
    for file in sweep.glob(f"*/{JOB_FILE}"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            records.append(JobRecord(**{**content, "directory": file.parent.name}))
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s cannot be read (%s): the job is run again", file, error)
    return sorted(records, key=lambda item: (item.number, item.directory))
