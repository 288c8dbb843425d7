"""Names of a run's files: no two alike, and run directories distinguished from other folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from kemr_lightning.core import run_directory
from kemr_lightning.core.run_directory import (
    BEST,
    BEST_NAME,
    CHECKPOINTS,
    CONTENTS,
    is_run_directory,
    run_of_checkpoint,
)


def test_no_name_stands_for_two_files() -> None:
    names = [value for key, value in vars(run_directory).items() if key.isupper() and isinstance(value, str)]
    assert len(names) > 40
    assert len(set(names)) == len(names)


def test_everything_that_is_explained_has_a_name() -> None:
    names = {value for key, value in vars(run_directory).items() if key.isupper() and isinstance(value, str)}
    assert set(CONTENTS) <= names
    assert all(text and not text.endswith(".") for text in CONTENTS.values())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({".hydra"}, True),
        ({"config.yaml", "metrics.json"}, True),
        ({"config.yaml", "checkpoints", "a.png"}, True),
        ({"config.yaml", "images.json"}, True),
        ({"config.yaml", "a.png"}, False),
        ({"metrics.json", "checkpoints"}, False),
        ({"a.png", "a.json"}, False),
        (set(), False),
    ],
)
def test_run_directories_are_recognised(names: set[str], expected: bool) -> None:
    assert is_run_directory(names) is expected


def test_a_checkpoint_lies_in_its_run() -> None:
    assert run_of_checkpoint(Path("runs/a") / BEST) == Path("runs/a")
    assert f"{CHECKPOINTS}/{BEST_NAME}" == BEST
