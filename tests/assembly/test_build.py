"""What the tasks share."""

from __future__ import annotations

import pytest

from kemr_lightning.assembly import build
from tests.conftest import compose

DATA = ("data=synthetic", "data.size=[128,96]", "data.count=3", "data.test_images=2")


def test_jobs_of_a_sweep_share_their_data(monkeypatch: pytest.MonkeyPatch) -> None:
    config, other = compose(*DATA), compose(*DATA, "seed=1")
    monkeypatch.setattr(build.jobs, "current", lambda: "a job")
    first = build.build_data(config, "test", ["chromosome"])
    assert build.build_data(config, "test", ["chromosome"]) is first
    assert build.build_data(config, "fit", ["chromosome"]) is not first
    again = build.build_data(config, "test", ["chromosome"])
    assert build.build_data(other, "test", ["chromosome"]) is not again
    monkeypatch.setattr(build.jobs, "current", lambda: None)
    alone = build.build_data(other, "test", ["chromosome"])
    assert build.build_data(other, "test", ["chromosome"]) is not alone
