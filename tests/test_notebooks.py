"""The notebooks' code runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib as mpl
import pytest

from tests.conftest import CONF


def test_quickstart(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(trained / "checkpoints", tmp_path / "runs" / "demo" / "train" / "one" / "checkpoints")
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    notebook = json.loads((CONF.parent / "notebooks" / "quickstart.ipynb").read_text())
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    iou = names["iou"]
    assert callable(iou)
    assert iou(names["after"]) > iou(names["before"])
