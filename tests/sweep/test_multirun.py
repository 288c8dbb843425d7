"""``python run.py -m`` as a user runs it: two jobs, two W&B runs, one failure, and taking it up again."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from tests.test_run import command


def runs_of(sweep: Path) -> dict[str, str]:
    """W&B run id -> content of its offline file, as far as it is text."""
    found = {}
    for folder in sweep.glob("*/wandb/offline-run-*"):
        (file,) = folder.glob("*.wandb")
        found[folder.name.rsplit("-", 1)[-1]] = file.read_bytes().decode("latin-1")
    return found


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
    runs = runs_of(sweep[0])
    assert len(runs) == 2
    assert len({folder.parent.parent.name for folder in sweep[0].glob("*/wandb/offline-run-*")}) == 2
    for content in runs.values():
        assert "two sigmas" in content
        assert re.search(r"refine\.sigma_alpha=[23]", content)


def test_the_failed_job_is_reported_and_costs_only_itself(sweep: tuple[Path, str, str]) -> None:
    folder, first, second = sweep
    assert "job 1 (refine.sigma_alpha=-1) failed: CRF parameter sigma_alpha must be greater than 0" in first
    with (folder / "sweep.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert all(row["refined/MaskAP"] for row in (rows[0], rows[2]))
    assert "best: job " in first
    assert (folder / "heatmap_MaskAP.png").is_file()
    assert (folder / "heatmap_IA.png").is_file()
    assert second.count("is done already") == 2


def test_one_model_serves_all_jobs(sweep: tuple[Path, str, str]) -> None:
    assert sweep[1].count("computed and stored") == 1
    assert sweep[1].count("reused from") == 1
