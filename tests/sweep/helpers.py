"""Jobs of a sweep whose task costs nothing, and the table that they leave."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from kemr_lightning.core.files import write_json
from kemr_lightning.core.run_directory import SWEEP_TABLE
from kemr_lightning.sweep.job_records import JobRecord
from kemr_lightning.sweep.jobs import Job, run


def job(sweep: Path, number: int, alpha: float, beta: float = 9, **more: str) -> Job:
    varied = {"refine.sigma_alpha": f"{alpha:g}", "refine.sigma_beta": f"{beta:g}", **more}
    return Job(number, sweep, ["experiment=sigma_sweep", *(f"{k}={v}" for k, v in varied.items())], varied)


class Task:
    """Writes metrics that follow from the number of calls."""

    def __init__(self, value: float = 50.0, error: BaseException | None = None) -> None:
        self.value, self.error, self.calls = value, error, 0

    def __call__(self, config: DictConfig) -> float:
        self.calls += 1
        if self.error is not None:
            raise self.error
        rows = {name: {"MaskAP": value, "IA": value} for name, value in (("initial", 40.0), ("refined", self.value))}
        write_json(Path(config.paths.run_dir) / "metrics.json", {"images": 1, "instances": 2, **rows})
        return self.value


def start(one: Job, task: Callable[[DictConfig], float], **files: Path) -> float | None:
    paths = {"run_dir": str(one.sweep / str(one.number))}
    given = {key: str(file) for key, file in files.items()}
    return run(one, OmegaConf.create({"paths": paths, "ckpt": None, **given}), task)


def rows(sweep: Path) -> list[dict[str, str]]:
    with (sweep / SWEEP_TABLE).open(newline="") as stream:
        return list(csv.DictReader(stream))


def done(number: int, varied: dict[str, str], **figures: float | None) -> JobRecord:
    """The record of a finished job without refinement."""
    overrides = [f"{key}={value}" for key, value in varied.items()]
    metrics = {"initial": dict(figures)} if figures else {}
    return JobRecord(number, overrides, varied, f"id {number}", "done", metrics=metrics, directory=str(number))
