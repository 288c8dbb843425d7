"""The Slurm launcher by its documented name, and what is said where it cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.sweep import launcher
from kemr_lightning.sweep.launcher import with_our_launcher
from tests.test_run import ROOT, command


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "_installed", lambda: True)
    monkeypatch.setattr(launcher.shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize("name", ["submitit_slurm", "slurm"])
@pytest.mark.usefixtures("everything")
def test_both_names_mean_the_projects_configuration(name: str) -> None:
    words = ["-m", "experiment=sigma_sweep", f"hydra/launcher={name}", "hydra.launcher.mem_gb=2"]
    assert with_our_launcher(words) == [*words[:2], "hydra/launcher=slurm", words[3]]


@pytest.mark.usefixtures("everything")
def test_other_launchers_are_left_alone() -> None:
    for words in ([], ["-m", "hydra/launcher=submitit_local"], ["hydra/launcher=basic"]):
        assert with_our_launcher(words) == words


def test_without_the_plug_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "PLUGIN", "no_such_plug_in")
    with pytest.raises(UserError, match=r"hydra/launcher=submitit_slurm .*: pip install -e '\.\[slurm\]'$"):
        with_our_launcher(["-m", "hydra/launcher=slurm"])
    assert with_our_launcher(["-m", "seed=1,2"]) == ["-m", "seed=1,2"]


@pytest.mark.usefixtures("everything")
def test_without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher.shutil, "which", lambda _: None)
    with pytest.raises(UserError, match=r"no Slurm on this machine \(srun is not found\)"):
        with_our_launcher(["--multirun", "hydra/launcher=submitit_slurm"])
    with_our_launcher(["--cfg", "hydra", "hydra/launcher=submitit_slurm"])  # starts nothing


def test_the_command_shows_the_projects_values_and_warns_of_nothing(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    done = command("--cfg", "hydra", "-p", "hydra.launcher", "hydra/launcher=submitit_slurm", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SlurmLauncher" in done.stdout
    for line in ("timeout_min: 240", "mem_gb: 16", "max_num_timeout: 20", "array_parallelism: 64"):
        assert line in done.stdout
    assert "schema" not in done.stdout + done.stderr


def test_a_machine_without_slurm_gets_one_line(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = [sys.executable, str(ROOT / "run.py"), "-m", "experiment=sigma_sweep", "hydra/launcher=submitit_slurm"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": str(tmp_path)}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: hydra/launcher=submitit_slurm: there is no Slurm")
    assert not list(tmp_path.iterdir())
