"""Progress with and without a terminal."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
import rich
from rich.console import Console

from kemr_lightning.tasks import progress
from kemr_lightning.tasks.progress import Stages, track


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "monotonic", clock)
    return clock


def use_console(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> io.StringIO:
    output = io.StringIO()
    monkeypatch.setattr(rich, "_console", Console(file=output, force_terminal=terminal, width=200))
    return output


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.INFO, logger="kemr_lightning.tasks.progress"):
        yield caplog


def test_a_line_every_thirty_seconds_without_a_terminal(
    clock: Clock, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = use_console(monkeypatch, terminal=False)
    seen = []
    for item in track(list("abcdefgh"), "Predicting"):
        seen.append(item)
        clock.now += 10
    assert seen == list("abcdefgh")
    # 80 seconds: a line after the third and the sixth item.
    assert lines.messages == ["3 of 8 images", "6 of 8 images"]
    assert output.getvalue() == ""


def test_a_short_run_without_a_terminal_logs_nothing(
    clock: Clock, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_console(monkeypatch, terminal=False)
    for _ in track(range(3), "Examining"):
        clock.now += 9.9
    assert lines.messages == []


def test_a_bar_in_a_terminal(clock: Clock, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    output = use_console(monkeypatch, terminal=True)
    for _ in track(range(4), "Examining"):
        clock.now += 100
    assert "Examining" in output.getvalue()
    assert "4/4" in output.getvalue()
    assert lines.messages == []


def test_the_bar_shows_the_end_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    output = use_console(monkeypatch, terminal=True)
    names = ["left_out_0123456789012345678[1].tif"]
    assert list(track(names, "Predicting", lambda name: name)) == names
    assert "_out_0123456789012345678[1].tif" not in output.getvalue()
    assert "out_0123456789012345678[1].tif" in output.getvalue()


def test_items_are_taken_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    use_console(monkeypatch, terminal=False)
    steps = track(range(1000), "Predicting")
    assert [next(steps), next(steps)] == [0, 1]


def test_stages_share_one_clock_and_name_themselves(
    clock: Clock, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = use_console(monkeypatch, terminal=False)
    with Stages() as stages:
        for _ in stages.track(range(5), "initial masks"):
            clock.now += 8
        stages.tell("CRF parameters", 1, 40)
        clock.now += 30
        stages.tell("CRF parameters", 2, 40)
    assert lines.messages == ["initial masks: 4 of 5", "CRF parameters: 2 of 40"]
    assert output.getvalue() == ""


def test_each_stage_has_its_bar_in_a_terminal(
    clock: Clock, lines: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = use_console(monkeypatch, terminal=True)
    with Stages() as stages:
        assert list(stages.track("ab", "initial masks")) == ["a", "b"]
        for step in range(1, 4):
            clock.now += 100
            stages.tell("CRF parameters", step, 3)
    for text in ("initial masks", "2/2", "CRF parameters", "3/3"):
        assert text in output.getvalue()
    assert lines.messages == []
