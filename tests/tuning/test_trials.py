from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from kemr_lightning.output.wandb_run import RunLogger, finish_run
from kemr_lightning.tuning.trials import log_trial, trials_table
from tests.helpers import read_run
from tests.tuning.helpers import search


def trial(number: int, pruned: bool = False, **attributes: Any) -> FrozenTrial:
    made = create_trial(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        value=None if pruned else 70.5,
        params={"w1": 2.5},
        distributions={"w1": FloatDistribution(1, 3)},
        intermediate_values={0: 60.0},
        user_attrs={
            "crf": {"w1": 2.5, "iterations": 5},
            "figures": {"MaskAP": 60.0 if pruned else 70.5, "AP50": 90.0, "AP75": 80.0, "IA": 85.0},
            **attributes,
        },
    )
    made.number = number
    return made


def test_a_table_of_trials_by_hand() -> None:
    rows = trials_table([trial(3, pruned=True), trial(1, cpu_seconds=0.25)])
    figures = ["90.0", "80.0", "85.0"]
    assert [[*row[:2], *row[3:]] for row in rows] == [
        ["trial", "state", "cpu_seconds", "parts", "w1", "iterations", "MaskAP", "AP50", "AP75", "IA"],
        ["1", "complete", "0.25", "2", "2.5", "5", "70.5", *figures],
        ["3", "pruned", "", "1", "2.5", "5", "60.0", *figures],
    ]
    assert [float(row[2]) for row in rows[1:]] == pytest.approx([0, 0], abs=1)


def test_a_trial_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_trial(trial(1), "MaskAP", [])
        log_trial(trial(3, pruned=True), "MaskAP", [])
    assert caplog.messages == ["trial 1: MaskAP 70.50 (w1 2.5)", "trial 3: MaskAP 60.00 pruned (w1 2.5)"]


def test_every_trial_is_logged_and_pruned_ones_are_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    loggers: list[Logger] = [RunLogger(project="test", save_dir=tmp_path)]
    found = search(str(tmp_path / "study.journal"))
    found.run(20, on_trial=lambda trial: log_trial(trial, "MaskAP", loggers))
    finish_run()
    run = read_run(tmp_path)
    assert run.values("trainer/global_step") == list(range(20))
    states = [trial.state for trial in found.study.trials]
    assert run.values("trial/pruned") == [float(state == TrialState.PRUNED) for state in states]
    assert 0 < states.count(TrialState.PRUNED) < 20
    for row in run.history:
        # Figures of a part of the images are not among those of all.
        assert ("trial/MaskAP" in row, "trial/pruned/MaskAP" in row) == (
            not row["trial/pruned"],
            bool(row["trial/pruned"]),
        )
