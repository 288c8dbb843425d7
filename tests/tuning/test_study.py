"""The search on a known landscape."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.tuning import study
from kemr_lightning.tuning.ranges import Range
from kemr_lightning.tuning.storage import open_storage
from kemr_lightning.tuning.study import Search
from tests.tuning.helpers import RANGES, Echo, Landscape, height, search


def test_the_search_finds_the_top_prunes_and_tries_the_configured_first(tmp_path: Path) -> None:
    found = search(str(tmp_path / "study.journal"))
    told: list[int] = []
    found.run(40, on_trial=lambda trial: told.append(trial.number))
    assert len(found.ended()) == 40
    assert told == list(range(40))
    assert found.study.trials[0].params == {"sigma_alpha": 2.0, "sigma_beta": 9.0}
    best = found.best()
    assert best is not None
    assert best.value is not None
    assert best.value > 95
    assert best.user_attrs["crf"]["w1"] == CRFParams().w1
    assert any(trial.state == TrialState.PRUNED for trial in found.ended())
    assert found.importance().keys() == RANGES.keys()
    assert sum(found.importance().values()) == pytest.approx(1)


def test_the_seed_decides_the_trials(tmp_path: Path) -> None:
    first, second, other = (search(str(tmp_path / name), seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    for each in (first, second, other):
        each.run(8)
    assert [t.params for t in first.study.trials] == [t.params for t in second.study.trials]
    assert [t.params for t in first.study.trials[1:]] != [t.params for t in other.study.trials[1:]]


def test_pruned_trials_were_below_the_median_and_are_not_the_best(tmp_path: Path) -> None:
    found = search(str(tmp_path / "study.journal"))
    found.run(30)
    complete = [trial for trial in found.ended() if trial.state == TrialState.COMPLETE]
    best = found.best()
    assert best is not None
    assert best.value == max(trial.value or 0 for trial in complete)
    for trial in found.ended():
        expected = height(CRFParams(**trial.user_attrs["crf"]))
        assert set(trial.user_attrs["figures"].values()) == {expected}
        if trial.state != TrialState.PRUNED:
            # No figure is reported after the last part.
            assert trial.intermediate_values == {0: expected, 1: expected}
            continue
        assert trial.number >= 5
        (step,) = trial.intermediate_values
        values = sorted(t.intermediate_values[step] for t in complete if t.number < trial.number)
        assert expected < values[len(values) // 2]


def test_a_figure_that_does_not_exist_is_not_reported(tmp_path: Path) -> None:
    class Late(Landscape):
        """The first part has no annotation."""

        def parts(self, refine: Any) -> Any:
            yield {"MaskAP": float("nan")}
            yield {"MaskAP": 1.0}
            yield {"MaskAP": 2.0}

    place = open_storage(str(tmp_path / "study.journal"))
    found = Search(Late(), Echo(), RANGES, "MaskAP", place, "s")  # type: ignore[arg-type]
    found.run(1)
    (trial,) = found.ended()
    assert (trial.value, trial.intermediate_values) == (2.0, {1: 1.0})


def test_configured_parameters_outside_the_ranges_are_moved_into_them(tmp_path: Path) -> None:
    ranges = {"w1": Range(5.0, 9.0), "iterations": Range(1, 4), "sigma_alpha": Range(0.5, 1.5)}
    place = open_storage(str(tmp_path / "study.journal"))
    found = Search(Landscape(), Echo(), ranges, "MaskAP", place, "s")  # type: ignore[arg-type]
    found.run(3)
    first, *others = found.ended()
    assert first.params == {"w1": 5.0, "iterations": 4, "sigma_alpha": 1.5}
    for trial in others:
        assert isinstance(trial.user_attrs["crf"]["iterations"], int)
        assert trial.user_attrs["crf"]["sigma_beta"] == CRFParams().sigma_beta


def test_a_timeout_starts_no_further_trial(tmp_path: Path) -> None:
    found = search(str(tmp_path / "study.journal"))
    found.run(1000, timeout=1e-9)
    assert len(found.ended()) <= 1


def test_importance_needs_trials(tmp_path: Path) -> None:
    found = search(str(tmp_path / "study.journal"))
    assert found.best() is None
    assert found.importance() == {}


def test_a_trial_of_a_dead_process_is_tried_again(tmp_path: Path) -> None:
    place = str(tmp_path / "study.journal")
    first = search(place)
    first.run(1)
    left = first.study.ask()
    values = {"sigma_alpha": left.suggest_float("sigma_alpha", 1, 8, log=True)}
    values["sigma_beta"] = left.suggest_float("sigma_beta", 3, 60, log=True)
    left.set_user_attr("process", f"{socket.gethostname()}:{2**22 + 1}")  # above Linux' highest process number
    again = search(place)
    assert again.study.trials[left.number].state == TrialState.FAIL
    again.run(2)
    assert again.study.trials[-1].params == pytest.approx(values)


@pytest.mark.parametrize("where", [f"{socket.gethostname()}:{os.getpid()}", "another machine:1"], ids=["here", "there"])
def test_a_trial_that_may_still_run_is_left_alone(tmp_path: Path, where: str) -> None:
    place = str(tmp_path / "study.journal")
    running = search(place).study.ask()
    running.set_user_attr("process", where)
    assert search(place).study.trials[running.number].state == TrialState.RUNNING


def test_processes_of_others_are_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(study.os, "kill", refuse)
    assert study._alive(1)


def test_optuna_is_current() -> None:
    assert int(optuna.__version__.split(".")[0]) >= 5
