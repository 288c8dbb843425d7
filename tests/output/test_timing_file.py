"""Each part of ``timing.json`` is written when it is known and stays when another is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kemr_lightning.core.run_directory import TIMING
from kemr_lightning.output.timing_file import machine, read_timing, write_timing

CPU = torch.device("cpu")


def test_parts_come_one_by_one(tmp_path: Path) -> None:
    write_timing(tmp_path, "training", {"seconds": 2.5, "steps": 4}, CPU)
    write_timing(tmp_path, "test", {"seconds_per_image": None}, CPU)
    write_timing(tmp_path, "test", {"seconds_per_image": 0.25}, CPU)
    content = json.loads((tmp_path / TIMING).read_text())
    assert content["training"] == {"seconds": 2.5, "steps": 4}
    assert content["test"] == {"seconds_per_image": 0.25}
    assert content["machine"] == machine(CPU)
    assert read_timing(tmp_path) == content


def test_the_machine() -> None:
    found = machine(CPU)
    assert found["device"].startswith("cpu ")
    assert (found["threads"], found["torch"]) == (torch.get_num_threads(), torch.__version__)


@pytest.mark.parametrize("content", [None, "[1", "[1]", "\x00"])
def test_a_missing_or_broken_file_is_not_a_timing(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / TIMING).write_text(content)
    assert read_timing(tmp_path) == {}
    write_timing(tmp_path, "test", {"images": 1}, CPU)
    assert set(read_timing(tmp_path)) == {"machine", "test"}
