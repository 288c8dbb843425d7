"""The table of a sweep, and its best job."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from kemr_lightning.core.run_directory import SWEEP_BEST
from kemr_lightning.sweep.conclusion import best_line
from kemr_lightning.sweep.job_records import JobRecord, read_records
from kemr_lightning.sweep.jobs import Job
from kemr_lightning.sweep.sweep_table import best_command, best_of, best_words, write_table
from tests.sweep.helpers import Task, done, rows, start


def test_commands_are_quoted_for_the_shell(tmp_path: Path) -> None:
    start(Job(0, tmp_path, ["data.root='my images'"], {}), Task())
    (record,) = read_records(tmp_path)
    assert best_line(record).endswith("""python run.py 'data.root='"'"'my images'"'"''""")


def test_columns_are_what_varies_and_every_figure(tmp_path: Path) -> None:
    first = done(0, {"model": "a"}, MaskAP=50.0, Own=1.0)  # a figure that a metric has added
    second = done(1, {"model": "b"}, MaskAP=60.0, Own=2.0)
    second.metrics["refined"] = {"MaskAP": 62.5, "Own": None}
    failed = JobRecord(2, ["model=c"], {"model": "c"}, "c", "failed", error="no memory", directory="2")
    for record in (first, second, failed):
        record.save(tmp_path)
    write_table(tmp_path)
    table = rows(tmp_path)
    names = ["BoxAP", "MaskAP", "AP50", "AP75", "IA", "Own"]
    assert list(table[0]) == [
        *("job", "directory", "status", "model"),
        *(f"{group}/{name}" for group in ("initial", "refined", "gain") for name in names),
        *("score", "seconds", "cpu_seconds", "error"),
    ]
    assert [row["initial/Own"] for row in table] == ["1.0", "2.0", ""]
    assert [row["gain/MaskAP"] for row in table] == ["", "2.5", ""]
    assert [row["gain/Own"] for row in table] == ["", "", ""]
    assert [(row["status"], row["error"]) for row in table] == [("done", ""), ("done", ""), ("failed", "no memory")]


def test_the_best_job_is_chosen_by_mask_ap_or_else_by_score() -> None:
    low, high, scoreless = done(0, {}, MaskAP=50.0), done(1, {}, MaskAP=60.0), done(2, {}, MaskAP=None)
    low.score = 99.0
    assert best_of([low, high, scoreless]) is high
    by_score = [done(0, {}), done(1, {}), done(2, {})]
    by_score[0].score, by_score[1].score = 3.0, math.nan
    assert best_of(by_score) is by_score[0]
    unfinished = done(3, {}, MaskAP=70.0)
    unfinished.status = "failed"
    assert best_of([low, unfinished]) is low
    assert best_of([]) is None
    assert best_of([done(0, {}, MaskAP=math.nan)]) is None


def test_words_and_command_of_the_best_job() -> None:
    best = done(4, {"refine.w1": "3"}, MaskAP=61.234, IA=None)
    assert best_words(best) == "best: job 4 (refine.w1=3): MaskAP 61.23"
    alone = done(0, {})
    alone.score = 0.5
    assert best_words(alone) == "best: job 0 (the only one): score 0.5"
    best.overrides, best.checkpoint = ["ckpt=best", "seed=1"], "runs/a b/best.ckpt"
    assert best_command(best) == "python run.py 'ckpt=runs/a b/best.ckpt' seed=1"


def test_a_best_job_that_is_gone_leaves_no_file(tmp_path: Path) -> None:
    record = done(0, {}, MaskAP=50.0)
    record.save(tmp_path)
    write_table(tmp_path)
    assert (tmp_path / SWEEP_BEST).is_file()
    record.status = "running"
    record.save(tmp_path)
    write_table(tmp_path)
    assert not (tmp_path / SWEEP_BEST).exists()


def test_a_record_that_comes_while_the_table_is_written_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kemr_lightning.sweep.sweep_table as module

    done(0, {}, MaskAP=50.0).save(tmp_path)
    real = module.write_text

    def slow(path: Path, text: str) -> None:
        real(path, text)
        if not (tmp_path / "1").exists():
            done(1, {}, MaskAP=60.0).save(tmp_path)

    monkeypatch.setattr(module, "write_text", slow)
    write_table(tmp_path)
    assert [row["job"] for row in rows(tmp_path)] == ["0", "1"]
