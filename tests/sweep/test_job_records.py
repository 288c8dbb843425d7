"""Records of jobs: what is kept, what old and damaged ones mean, and what all of them together vary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from kemr_lightning.core.run_directory import CONFIG, JOB
from kemr_lightning.sweep.job_records import JobRecord, read_records, varied_keys
from kemr_lightning.sweep.jobs import Job
from tests.sweep.helpers import Task, done, job, rows, start


def test_a_key_that_was_added_has_its_configured_value_in_earlier_jobs(tmp_path: Path) -> None:
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


def test_a_damaged_record_is_reported_and_its_job_run_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    task = Task()
    start(job(tmp_path, 0, 2), task)
    (tmp_path / "0" / JOB).write_text('{"number": ')
    start(job(tmp_path, 0, 2), task)
    assert task.calls == 2
    assert "cannot be read" in caplog.text


def test_a_record_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    record = JobRecord(
        3, ["seed=3"], {"seed": "3"}, "abc", "failed", error="no", directory="3-abc", checkpoint="a.ckpt"
    )
    record.save(tmp_path)
    assert read_records(tmp_path) == [record]
    assert json.loads((tmp_path / "3-abc" / JOB).read_text())["status"] == "failed"


def test_records_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They have neither a checkpoint nor a processor time."""
    old = {
        **{"number": 1, "overrides": ["seed=1"], "varied": {"seed": "1"}, "identity": "abc", "status": "done"},
        **{"score": 50.0, "seconds": 2.5, "metrics": {"initial": {"MaskAP": 50.0}}, "error": None},
    }
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / JOB).write_text(json.dumps(old))
    (record,) = read_records(tmp_path)
    assert (record.status, record.seconds, record.cpu_seconds, record.checkpoint) == ("done", 2.5, None, None)
    assert (record.directory, record.final) == ("1", {"MaskAP": 50.0})


def test_records_are_ordered_by_number_and_final_figures_are_the_refined_ones(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        record = done(number, {"seed": str(number)}, MaskAP=1.0)
        record.metrics["refined"] = {"MaskAP": 2.0}
        record.save(tmp_path)
    records = read_records(tmp_path)
    assert [record.number for record in records] == [1, 2, 10]
    assert records[0].final == {"MaskAP": 2.0}
    assert JobRecord(0, [], {}, "").final == {}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (["a=1", "b=2"], ["a=1", "b=3"], ["b"]),
        (["a=1", "b=2"], ["a=1.0", "b=2"], []),  # the same number
        (["a=1"], ["a=1", "b=2"], ["b"]),
        (["x.y=u", "a=1"], ["a=2", "x.y=v"], ["x.y", "a"]),
    ],
)
def test_what_varies_is_what_differs(tmp_path: Path, first: list[str], second: list[str], expected: list[str]) -> None:
    for number, overrides in enumerate((first, second)):
        JobRecord(number, overrides, {}, str(number), directory=str(number)).save(tmp_path)
    assert varied_keys(read_records(tmp_path)) == expected
