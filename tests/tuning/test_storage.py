"""Where studies are kept, and processes that share one."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from kemr_lightning.core.errors import SettingError
from kemr_lightning.tuning import storage
from kemr_lightning.tuning.storage import one_at_a_time, open_storage
from tests.tuning.helpers import search


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_study_resumes_where_it_stopped(tmp_path: Path, kind: str) -> None:
    place = f"sqlite:///{tmp_path / 'study.db'}" if kind == "sqlite" else str(tmp_path / "study.journal")
    search(place).run(2)
    again = search(place)
    assert len(again.ended()) == 2
    again.run(4)
    assert len(again.ended()) == 4
    again.run(4)
    assert len(again.study.trials) == 4
    numbers = [trial.params["sigma_alpha"] for trial in again.study.trials]
    assert len(set(numbers)) == 4


def test_studies_of_other_names_are_kept_apart(tmp_path: Path) -> None:
    place = str(tmp_path / "study.journal")
    search(place, name="one").run(2)
    assert search(place, name="two").ended() == []
    assert len(search(place, name="one").ended()) == 2


def test_searchers_share_a_study(tmp_path: Path) -> None:
    place = str(tmp_path / "study.journal")
    search(place)  # queues the configured parameters once
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda seed: search(place, 100 * seed).run(12), range(3)))
    trials = search(place).study.trials
    assert 12 <= len([trial for trial in trials if trial.state.is_finished()]) <= 14
    assert [trial.number for trial in trials] == list(range(len(trials)))


def begin(place: str, seed: int, barrier: Any) -> None:
    """A process of its own that starts with the others."""
    barrier.wait()
    with one_at_a_time(place):
        started = search(place, 100 * seed)
    started.run(6)


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_processes_that_start_together_share_a_new_study(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "new folder" / f"study.{kind}"
    place = f"sqlite:///{file}" if kind == "sqlite" else str(file)
    together = multiprocessing.get_context("fork")
    barrier = together.Barrier(4)
    processes = [together.Process(target=begin, args=(place, seed, barrier)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    trials = search(place).study.trials
    assert 6 <= len(trials) <= 9
    assert [trial.number for trial in trials] == list(range(len(trials)))
    # The configured parameters are tried by one of them.
    assert sum(trial.params == {"sigma_alpha": 2.0, "sigma_beta": 9.0} for trial in trials) == 1


def test_a_database_that_others_are_creating_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first attempts find the tables half made, as where no lock helps."""
    errors: list[Exception] = [OperationalError("create", {}, Exception("already exists")), AssertionError()]
    real = storage.RDBStorage

    def open_half_made(*args: object, **kwargs: object) -> object:
        if errors:
            raise errors.pop()
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(storage, "RDBStorage", open_half_made)
    monkeypatch.setattr(storage.time, "sleep", lambda _: None)
    assert open_storage(f"sqlite:///{tmp_path / 'study.db'}").get_all_studies() == []
    assert errors == []


def test_a_database_that_stays_broken_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[None] = []

    def broken(*args: object, **kwargs: object) -> object:
        tries.append(None)
        raise AssertionError("no row")

    monkeypatch.setattr(storage, "RDBStorage", broken)
    monkeypatch.setattr(storage.time, "sleep", lambda _: None)
    with pytest.raises(SettingError, match="no row"):
        open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    assert len(tries) == storage.TRIES


def test_a_storage_that_cannot_be_opened_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage.time, "sleep", lambda _: None)
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file" / "study.journal"), "nonsense://"):
        with pytest.raises(SettingError, match=r"cannot be opened \(.+\). Give another file") as caught:
            open_storage(place)
        assert (caught.value.setting, caught.value.value) == ("storage", place)


def test_a_place_that_cannot_be_locked_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file" / "study.journal"), "://"):
        with pytest.raises(SettingError, match="Give another file"), one_at_a_time(place):
            pytest.fail("it was locked")


def test_databases_in_memory_have_no_lock() -> None:
    for place in ("sqlite://", "sqlite:///:memory:", "mysql+pymysql://host/name"):
        with one_at_a_time(place):
            pass
