"""``python run.py -m`` as a user runs it: two jobs, two W&B runs, one failure, and taking it up again."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.helpers import read_run
from tests.test_run import command


@pytest.fixture(scope="module")
def sweep(trained: Path, labelme_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A sweep of three jobs, the second of which fails; its output, and that of the same command given again."""
    folder = tmp_path_factory.mktemp("sweeps") / "two sigmas"
    words = [
        "-m",
        "experiment=sigma_sweep",
        f"ckpt='{trained / 'checkpoints' / 'best.ckpt'}'",
        f"data.root='{labelme_root}'",
        "refine.sigma_alpha=2,-1,3",
        "refine.sigma_beta=9",
        "callbacks.figures=null",
        f"hydra.sweep.dir='{folder}'",
    ]
    first, second = (command(*words, cwd=folder.parent) for _ in range(2))
    assert first.returncode != 0
    assert second.returncode != 0
    return folder, first.stdout + first.stderr, second.stdout + second.stderr


def test_each_job_is_a_wandb_run_of_its_own_in_the_sweeps_group(sweep: tuple[Path, str, str]) -> None:
    runs = {job: read_run(sweep[0] / job) for job in ("0", "2")}
    assert not list(sweep[0].glob("1/wandb/*/*.wandb"))
    assert len({run.id for run in runs.values()}) == 2
    for run, sigma in zip(runs.values(), (2, 3), strict=True):
        assert (run.group, run.job_type, run.exit_code) == ("two sigmas", "test", 0)
        assert run.tags == [f"refine.sigma_alpha={sigma}"]
        assert run.config["refine"]["sigma_alpha"] == run.config["refine.sigma_alpha"] == sigma
        assert run.summary["refine.sigma_alpha"] == sigma
        assert "test/refined/MaskAP" in run.summary
        assert run.artifact("knowledge")


def test_the_failed_job_is_reported_and_costs_only_itself(sweep: tuple[Path, str, str]) -> None:
    folder, first, second = sweep
    assert "job 1 (refine.sigma_alpha=-1) failed: refine.sigma_alpha=-1 must be greater than 0" in first
    with (folder / "sweep.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert all(row["refined/MaskAP"] for row in (rows[0], rows[2]))
    (line,) = [line for line in first.splitlines() if "best: job " in line]
    best, command = (folder / "best.txt").read_text().splitlines()
    assert line.endswith(f"{best}. Use its parameters: {command}")
    assert command.startswith("python run.py experiment=sigma_sweep 'ckpt=")
    assert (folder / "heatmap_MaskAP.png").is_file()
    assert (folder / "heatmap_IA.png").is_file()
    assert second.count("is done already") == 2


def test_one_model_serves_all_jobs(sweep: tuple[Path, str, str]) -> None:
    assert sweep[1].count("computed and stored") == 1
    assert sweep[1].count("reused from") == 1
