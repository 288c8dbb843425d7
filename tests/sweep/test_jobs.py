"""Jobs of a sweep: records, skipping, failures, the table and the best job."""

from __future__ import annotations

import csv
import json
import logging
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

import kemr_lightning.sweep.table
from kemr_lightning.assembly.checkpoints import find_checkpoint
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import write_json
from kemr_lightning.core.run_directory import CONFIG, JOB, SWEEP_BEST, SWEEP_TABLE
from kemr_lightning.sweep.jobs import MULTIRUN_FILE, Job, read_records, run
from kemr_lightning.sweep.table import best_line, best_of, conclude, draw_heat_map, write_table


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


def test_an_axis_that_was_added_is_in_the_table_and_on_the_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refined(Task):
        """Leaves its configuration, as tasks do."""

        def __call__(self, config: DictConfig) -> float:
            content = {"refine": {"sigma_alpha": 2.0, "sigma_beta": 9.0, "w1": 3.5}}
            OmegaConf.save(OmegaConf.create(content), Path(config.paths.run_dir) / CONFIG)
            return super().__call__(config)

    def one(number: int, alpha: int, beta: int | None = None) -> Job:
        """Two values of alpha; then one of them with two of beta, which the command does not list alpha for."""
        varied = {"refine.sigma_alpha": str(alpha)} if beta is None else {"refine.sigma_beta": str(beta)}
        given = [f"refine.sigma_alpha={alpha}"] + ([] if beta is None else [f"refine.sigma_beta={beta}"])
        return Job(number, tmp_path, ["experiment=sigma_sweep", *given], varied)

    for number, alpha in enumerate((2, 3)):
        start(one(number, alpha), Refined(50 + number))
    for number, beta in enumerate((15, 26)):
        start(one(number, 3, beta), Refined(60 + number))
    table = rows(tmp_path)
    assert len({row["job"] for row in table}) == len({row["directory"] for row in table}) == 4
    found = {(row["refine.sigma_alpha"], row["refine.sigma_beta"]): float(row["refined/MaskAP"]) for row in table}
    assert found == {("2", "9"): 50, ("3", "9"): 51, ("3", "15"): 60, ("3", "26"): 61}
    assert "refine.w1" not in table[0]
    drawn: dict[str, object] = {}

    class Kept(kemr_lightning.sweep.table.Figure):
        def savefig(self, *args: object, **kwargs: object) -> None:
            drawn["values"] = self.axes[0].images[0].get_array().filled(-1).tolist()
            drawn["axes"] = (self.axes[0].get_ylabel(), self.axes[0].get_xlabel())

    monkeypatch.setattr(kemr_lightning.sweep.table, "Figure", Kept)
    assert draw_heat_map(read_records(tmp_path), "MaskAP", tmp_path / "a.png")
    assert drawn == {
        "values": [[50, -1, -1], [51, 60, 61]],
        "axes": ("refine.sigma_alpha", "refine.sigma_beta"),
    }


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
    assert commands == [shlex.quote(f"ckpt='{first}'"), f"ckpt={second}"]


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


def test_a_damaged_record_is_reported_and_its_job_run_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = Task()
    start(job(tmp_path, 0, 2), task)
    (tmp_path / "0" / JOB).write_text('{"number": ')
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
    # The table alone is written by every job, also where the process that waits for the end has gone.
    best = "best: job 2 (refine.sigma_alpha=3 refine.sigma_beta=9): MaskAP 52.00, IA 52.00"
    command = "python run.py experiment=sigma_sweep refine.sigma_alpha=3 refine.sigma_beta=9"
    assert (tmp_path / SWEEP_BEST).read_text() == f"{best}\n{command}\n"
    with caplog.at_level(logging.INFO):
        conclude(tmp_path)
    assert "3 of 4 jobs done" in caplog.text
    assert f"hydra.sweep.dir={tmp_path}" in caplog.text
    assert f"{best}. Use its parameters: {command}" in caplog.text
    for name in ("MaskAP", "IA"):
        assert (tmp_path / f"heatmap_{name}.png").stat().st_size > 1000


def test_a_sweep_without_records_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    conclude(tmp_path)
    assert f"no job has left a record in {tmp_path}" in caplog.text
    assert not list(tmp_path.iterdir())


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
    assert json.loads((tmp_path / "0" / JOB).read_text())["status"] == "done"
