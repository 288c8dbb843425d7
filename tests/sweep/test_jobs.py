"""Jobs of a sweep: records, skipping, failures, the table and the best job."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from kemr_lightning.errors import UserError
from kemr_lightning.output.files import write_json
from kemr_lightning.sweep.jobs import JOB_FILE, MULTIRUN_FILE, Job, read_records, run
from kemr_lightning.sweep.table import TABLE, best_line, best_of, conclude, draw_heat_map, write_table


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


def start(one: Job, task: Task, ckpt: Path | None = None) -> float | None:
    paths = {"run_dir": str(one.sweep / str(one.number))}
    return run(one, OmegaConf.create({"paths": paths, "ckpt": None if ckpt is None else str(ckpt)}), task)


def rows(sweep: Path) -> list[dict[str, str]]:
    with (sweep / TABLE).open(newline="") as stream:
        return list(csv.DictReader(stream))


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


def test_a_training_that_was_begun_goes_on(tmp_path: Path) -> None:
    given: list[tuple[str, str | None]] = []

    def train(config: DictConfig) -> float:
        given.append((Path(config.paths.run_dir).name, config.ckpt))
        last = Path(config.paths.run_dir) / "checkpoints" / "last.ckpt"
        last.parent.mkdir(exist_ok=True)
        last.write_bytes(b"state")
        if len(given) == 1:
            raise KeyboardInterrupt
        return 1.0

    def start_as(number: int) -> float | None:
        one = job(tmp_path, 0, 2)
        paths = {"run_dir": str(tmp_path / str(number))}
        config = {"paths": paths, "ckpt": None, "init": "start.ckpt", "task": {"name": "train"}}
        return run(Job(number, tmp_path, one.overrides, one.varied), OmegaConf.create(config), train)

    with pytest.raises(KeyboardInterrupt):
        start_as(0)
    # More values were put before this one: its number is another, its directory is not.
    assert start_as(1) == 1
    assert given == [("0", None), ("0", str(tmp_path / "0" / "checkpoints" / "last.ckpt"))]
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


def test_a_retrained_checkpoint_is_another_job(tmp_path: Path) -> None:
    file, task = tmp_path / "a.ckpt", Task()
    file.write_bytes(b"one")
    start(job(tmp_path, 0, 2), task, file)
    start(job(tmp_path, 0, 2), task, file)
    assert task.calls == 1
    file.write_bytes(b"another")
    start(job(tmp_path, 0, 2), task, file)
    assert task.calls == 2


def test_a_damaged_record_is_reported_and_its_job_run_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = Task()
    start(job(tmp_path, 0, 2), task)
    (tmp_path / "0" / JOB_FILE).write_text('{"number": ')
    start(job(tmp_path, 0, 2), task)
    assert task.calls == 2
    assert "cannot be read" in caplog.text


def test_the_group_is_the_sweeps_name() -> None:
    assert job(Path("runs/sigma_sweep/sweeps/2025-01-01"), 0, 2).group == "sigma_sweep 2025-01-01"
    assert job(Path("my sweep"), 0, 2).group == "my sweep"
    assert job(Path("s"), 0, 2).settings()["refine.sigma_alpha"] == 2


def test_conclusion_names_the_best_job_its_command_and_what_is_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, (alpha, beta) in enumerate([(2, 9), (2, 15), (3, 9)]):
        start(job(tmp_path, number, alpha, beta), Task(50 + number))
    with pytest.raises(ValueError, match="broken"):
        start(job(tmp_path, 3, 3, 15), Task(error=ValueError("broken")))
    with caplog.at_level(logging.INFO):
        conclude(tmp_path)
    assert "3 of 4 jobs done" in caplog.text
    assert f"hydra.sweep.dir={tmp_path}" in caplog.text
    assert "best: job 2 (refine.sigma_alpha=3 refine.sigma_beta=9): MaskAP 52.00" in caplog.text
    command = "python run.py experiment=sigma_sweep refine.sigma_alpha=3 refine.sigma_beta=9"
    assert command in caplog.text
    for name in ("MaskAP", "IA"):
        assert (tmp_path / f"heatmap_{name}.png").stat().st_size > 1000


def test_commands_are_quoted_for_the_shell(tmp_path: Path) -> None:
    start(Job(0, tmp_path, ["data.root='my images'"], {}), Task())
    (record,) = read_records(tmp_path)
    assert best_line(record).endswith("""python run.py 'data.root='"'"'my images'"'"''""")


def test_heat_maps_need_numbers_and_average_over_the_rest(tmp_path: Path) -> None:
    for number, seed in enumerate("012"):
        start(job(tmp_path, number, 2 + number // 2, seed=seed), Task(50))
    assert draw_heat_map(read_records(tmp_path), "MaskAP", tmp_path / "a.png")
    words = tmp_path / "words"
    start(Job(0, words, ["model=a"], {"model": "a"}), Task())
    assert not draw_heat_map(read_records(words), "MaskAP", words / "a.png")
    write_table(words)
    assert rows(words)[0]["model"] == "a"


def test_what_varies_follows_from_the_sweeps_command(tmp_path: Path) -> None:
    from kemr_lightning.sweep.jobs import _varied

    given = ["experiment=sigma_sweep", "ckpt=a.ckpt", "refine.sigma_alpha=2,3"]
    OmegaConf.save(OmegaConf.create({"hydra": {"overrides": {"task": given}}}), tmp_path / MULTIRUN_FILE)
    own = ["experiment=sigma_sweep", "ckpt=a.ckpt", "refine.sigma_alpha=3"]
    assert _varied(tmp_path, own) == {"refine.sigma_alpha": "3"}


def test_records_are_plain_json(tmp_path: Path) -> None:
    start(job(tmp_path, 0, 2), Task())
    assert json.loads((tmp_path / "0" / JOB_FILE).read_text())["status"] == "done"
