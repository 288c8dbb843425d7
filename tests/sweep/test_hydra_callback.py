"""A sweep has one directory, whatever its jobs are called, and one process that runs it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from kemr_lightning.core.files import write_json
from kemr_lightning.core.locks import lock, locked
from kemr_lightning.core.run_directory import LAUNCH_LOCK
from kemr_lightning.sweep.hydra_callback import SweepCallback, conclude_sweeps, pin_directory
from tests.test_run import command


def score(config: DictConfig) -> float:
    """A task that costs nothing: longer names are better."""
    figures = {"MaskAP": float(len(config.name)), "IA": 1.0}
    write_json(Path(config.paths.run_dir) / "metrics.json", {"initial": figures})
    return figures["MaskAP"]


def test_jobs_of_two_experiments_are_one_sweep(tmp_path: Path) -> None:
    done = command(
        "-m",
        "experiment=mask_rcnn_tiny,kemr_tiny",
        f"task.function={score.__module__}.{score.__name__}",
        "data=synthetic",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (sweep,) = tmp_path.glob("runs/*/sweeps/*")
    assert {path.parent.name for path in sweep.glob("*/job.json")} == {"0", "1"}
    with (sweep / "sweep.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["experiment"] for row in rows] == ["mask_rcnn_tiny", "kemr_tiny"]
    assert "best: job 0 (experiment=mask_rcnn_tiny): MaskAP 14.00" in done.stdout + done.stderr
    assert (sweep / "best.txt").is_file()


@pytest.mark.parametrize("name", ["plain", "two words", "it's, {so} (it)=is", "1"])
def test_every_job_is_given_the_launching_process_directory(tmp_path: Path, name: str) -> None:
    sweep = tmp_path / name
    hydra = {"sweep": {"dir": "${name}"}, "overrides": {"hydra": ["hydra.sweep.dir=other"]}}
    config = OmegaConf.create({"name": name, "hydra": hydra})
    OmegaConf.set_readonly(config, True)
    pin_directory(config, sweep)
    assert config.hydra.sweep.dir == str(sweep)
    given = OverridesParser.create().parse_override(config.hydra.overrides.hydra[-1])
    assert given.key_or_group == "hydra.sweep.dir"
    assert str(getattr(given.value(), "text", given.value())) == str(sweep)


def test_two_processes_do_not_run_one_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def start() -> None:
        config = {"sweep": {"dir": str(tmp_path / "sweep")}, "overrides": {"hydra": []}}
        SweepCallback().on_multirun_start(OmegaConf.create({"hydra": config}))

    other = lock(tmp_path / "sweep" / LAUNCH_LOCK)
    assert other is not None
    with pytest.raises(SystemExit) as caught:
        start()
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a sweep is running in" in line
    os.close(other)
    start()
    conclude_sweeps()
    start()  # a process may run one sweep after the other
    conclude_sweeps()


def test_a_lock_belongs_to_one_holder(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "lock"
    with locked(file):
        assert lock(file, wait=False) is None
    again = lock(file, wait=False)
    assert again is not None
    os.close(again)
