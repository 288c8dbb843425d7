"""What progress shows with and without a terminal."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import rich
from rich.console import Console

from kemr_lightning.callbacks.progress import ProgressCallback, duration
from kemr_lightning.callbacks.refinement import RefinementCallback
from tests.callbacks.helpers import FakeModule, eroding, loader, samples, trainer


def fit(directory: Path, **options: Any) -> ProgressCallback:
    items, found = samples(4)
    progress = ProgressCallback(seconds_between_lines=0.0)
    run = trainer(directory, [RefinementCallback(eroding), progress], enable_progress_bar=True, **options)
    run.fit(FakeModule(found), loader(items), loader(items))
    return progress


def test_lines_without_a_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rich, "_console", Console(file=io.StringIO(), force_terminal=False))
    with caplog.at_level(logging.INFO, logger="kemr_lightning"):
        progress = fit(tmp_path, max_epochs=-1, max_steps=4)
    assert progress.is_disabled
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("kemr_lightning")]
    assert re.match(r"step 1/4, 0:0\d gone, 0:0\d to go  loss \S+  mask \S+$", lines[0])
    assert re.search(r"step 4/4.*MaskAP \S+  gain -?\S+$", lines[-1])


def test_epochs_without_a_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rich, "_console", Console(file=io.StringIO(), force_terminal=False))
    with caplog.at_level(logging.INFO, logger="kemr_lightning"):
        fit(tmp_path, max_epochs=1)
    assert "step 2, epoch 1/1" in caplog.text


def test_a_bar_over_all_steps_in_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=200)
    monkeypatch.setattr(rich, "_console", console)
    monkeypatch.setattr("lightning.pytorch.callbacks.progress.rich_progress.reconfigure", lambda **_: None)
    progress = fit(tmp_path, max_epochs=-1, max_steps=4)
    assert progress.is_enabled
    text = output.getvalue()
    assert "Training" in text
    assert "4/4" in text
    assert "MaskAP" in text
    assert "mask: " in text


def test_durations() -> None:
    assert [duration(v) for v in (0, 65, 3909)] == ["0:00", "1:05", "1:05:09"]
