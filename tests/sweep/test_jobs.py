"""Jobs of a sweep: what is run, skipped, resumed and recorded."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from kemr_lightning.assembly.checkpoints import find_checkpoint
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.run_directory import SWEEP_CONFIG
from kemr_lightning.sweep.conclusion import best_line
from kemr_lightning.sweep.job_records import read_records
from kemr_lightning.sweep.jobs import Job, _varied, run
from kemr_lightning.sweep.sweep_table import best_of
from tests.sweep.helpers import Task, job, rows, start


def test_the_table_is_whole_after_every_job_and_a_failure_costs_only_itself(tmp_path: Path) -> None:
    assert start(job(tmp_path, 0, 2), Task(50)) == 50
    with pytest.raises(UserError):
        start(job(tmp_path, 1, 3), Task(error=UserError("bad\nvalue")))
    start(job(tmp_path, 2, 5), Task(60))
    table = rows(tmp_path)
    assert [row["status"] for row in table] == ["done", "failed", "done"]
    assert [row["refine.sigma_alpha"] for row in table] == ["2", "3", "5"]
    assert table[1]["error"] == "UserError: bad value"
    assert float(table[2]["gain/MaskAP"]) == 20
    best = best_of(read_records(tmp_path))
    assert best is not None
    assert best.number == 2


def test_done_jobs_are_skipped_others_run_again(tmp_path: Path) -> None:
    start(job(tmp_path, 0, 2), Task(50))
    with pytest.raises(KeyboardInterrupt):
        start(job(tmp_path, 1, 3), Task(error=KeyboardInterrupt()))
    assert [row["status"] for row in rows(tmp_path)] == ["done", "interrupted"]
    again = Task(70)
    assert start(job(tmp_path, 0, 2), again) == 50
    assert again.calls == 0
    assert start(job(tmp_path, 1, 3), again) == 70
    assert again.calls == 1
    assert [row["status"] for row in rows(tmp_path)] == ["done", "done"]


def test_a_training_that_was_begun_resumes(tmp_path: Path) -> None:
    given: list[tuple[str, str | None]] = []

    def train(config: DictConfig) -> float:
        given.append((Path(config.paths.run_dir).name, config.resume))
        last = Path(config.paths.run_dir) / "checkpoints" / "last.ckpt"
        last.parent.mkdir(exist_ok=True)
        last.write_bytes(b"state")
        if len(given) == 1:
            raise KeyboardInterrupt
        return 1.0

    def start_as(number: int) -> float | None:
        one = job(tmp_path, 0, 2)
        paths = {"run_dir": str(tmp_path / str(number))}
        config = {"paths": paths, "ckpt": None, "resume": None, "init": "start.ckpt", "task": {"name": "train"}}
        return run(Job(number, tmp_path, one.overrides, one.varied), OmegaConf.create(config), train)

    with pytest.raises(KeyboardInterrupt):
        start_as(0)
    # More values were put before this one: its number is another, its directory is not.
    assert start_as(1) == 1
    assert given == [("0", None), ("0", "auto")]
    assert [row["status"] for row in rows(tmp_path)] == ["done"]


def test_a_grown_sweep_keeps_what_it_has(tmp_path: Path) -> None:
    start(job(tmp_path, 0, 2), Task(50))
    start(job(tmp_path, 1, 3), Task(60))
    new, moved = Task(55), Task(1)
    start(job(tmp_path, 1, 2.5), new)
    assert start(job(tmp_path, 2, 3), moved) == 60
    assert (new.calls, moved.calls) == (1, 0)
    records = read_records(tmp_path)
    assert sorted(record.final["MaskAP"] or 0 for record in records) == [50, 55, 60]


@pytest.mark.parametrize("key", ["ckpt", "knowledge", "init"])
def test_a_file_with_another_content_makes_another_job(tmp_path: Path, key: str) -> None:
    file, task = tmp_path / "a.file", Task()
    file.write_bytes(b"one")
    start(job(tmp_path, 0, 2), task, **{key: file})
    start(job(tmp_path, 0, 2), task, **{key: file})
    assert task.calls == 1
    file.write_bytes(b"another")
    start(job(tmp_path, 0, 2), task, **{key: file})
    assert task.calls == 2


@pytest.mark.parametrize("name", ["best", "last"])
def test_a_checkpoint_by_name_is_the_file_it_means(tmp_path: Path, name: str) -> None:
    def train(run: str) -> Path:
        file = tmp_path / "runs" / run / "checkpoints" / f"{name}.ckpt"
        file.parent.mkdir(parents=True)
        file.write_bytes(run.encode())
        os.utime(file, (len(used), len(used)))  # the newest counts
        return file

    def task(config: DictConfig) -> float:
        used.append(config.ckpt)
        return Task()(config)

    def test() -> None:
        config = {"paths": {"run_dir": str(sweep / "0"), "runs": str(tmp_path / "runs")}, "task": {"name": "test"}}
        one = Job(0, sweep, [f"ckpt={name}"], {})
        run(one, OmegaConf.create({**config, "ckpt": name}), task, find=find_checkpoint)

    used: list[str] = []
    sweep = tmp_path / "sweep"
    first = train("first run")
    test()
    test()
    assert used == [str(first)]
    second = train("second")
    test()
    test()
    assert used == [str(first), str(second)]
    commands = [best_line(record).partition("python run.py ")[2] for record in read_records(sweep)]
    assert commands == [shlex.quote(f"ckpt={first}"), f"ckpt={second}"]


def test_a_training_resumes_by_name_what_it_began(tmp_path: Path) -> None:
    given: list[str] = []

    def train(config: DictConfig) -> float:
        given.append(config.ckpt)
        return 1.0

    config = {"paths": {"run_dir": str(tmp_path / "0")}, "task": {"name": "train"}, "ckpt": "last"}
    run(Job(0, tmp_path, ["ckpt=last"], {}), OmegaConf.create(config), train, find=lambda _: tmp_path / "another")
    assert given == ["last"]


def test_without_a_checkpoint_the_task_says_so(tmp_path: Path) -> None:
    config = {
        "paths": {"run_dir": str(tmp_path / "0"), "runs": str(tmp_path)},
        "task": {"name": "test"},
        "ckpt": "best",
    }
    with pytest.raises(UserError, match="Train first"):
        run(Job(0, tmp_path, ["ckpt=best"], {}), OmegaConf.create(config), find_checkpoint, find=find_checkpoint)
    assert "Train first" in (read_records(tmp_path)[0].error or "")


def test_the_group_is_the_sweeps_name() -> None:
    assert job(Path("runs/sigma_sweep/sweeps/2025-01-01"), 0, 2).group == "sigma_sweep 2025-01-01"
    assert job(Path("my sweep"), 0, 2).group == "my sweep"
    assert job(Path("s"), 0, 2).settings()["refine.sigma_alpha"] == 2


def test_what_varies_follows_from_the_sweeps_command(tmp_path: Path) -> None:
    given = ["experiment=sigma_sweep", "ckpt=a.ckpt", "refine.sigma_alpha=2,3"]
    OmegaConf.save(OmegaConf.create({"hydra": {"overrides": {"task": given}}}), tmp_path / SWEEP_CONFIG)
    own = ["experiment=sigma_sweep", "ckpt=a.ckpt", "refine.sigma_alpha=3"]
    assert _varied(tmp_path, own) == {"refine.sigma_alpha": "3"}
