"""What is said and drawn once all jobs of a sweep have ended."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

import pytest

from kemr_lightning.core.run_directory import SWEEP_BEST
from kemr_lightning.sweep.conclusion import conclude
from tests.sweep.helpers import Task, job, start


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


def test_the_directory_is_quoted_for_the_shell_and_hydra(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sweep = tmp_path / "a sweep, i=1 (new)"
    with pytest.raises(ValueError, match="broken"):
        start(job(sweep, 0, 3), Task(error=ValueError("broken")))
    conclude(sweep)
    words = shlex.split(next(message for message in caplog.messages if message.startswith("the same command with")))
    assert f"hydra.sweep.dir='{sweep}'" in words


def test_a_sweep_without_records_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    conclude(tmp_path)
    assert f"no job has left a record in {tmp_path}" in caplog.text
    assert not list(tmp_path.iterdir())
