"""What the tasks share."""

from __future__ import annotations

import pytest

from kemr_lightning.tasks import setup
from tests.conftest import compose

DATA = ("data=synthetic", "data.size=[128,96]", "data.count=3", "data.test_images=2")


def test_jobs_of_a_sweep_share_their_data(monkeypatch: pytest.MonkeyPatch) -> None:
    config, other = compose(*DATA), compose(*DATA, "seed=1")
    monkeypatch.setattr(setup.jobs, "current", lambda: "a job")
    first = setup.build_data(config, "test", ["chromosome"])
    assert setup.build_data(config, "test", ["chromosome"]) is first
    assert setup.build_data(config, "fit", ["chromosome"]) is not first
    again = setup.build_data(config, "test", ["chromosome"])
    assert setup.build_data(other, "test", ["chromosome"]) is not again
    monkeypatch.setattr(setup.jobs, "current", lambda: None)
    alone = setup.build_data(other, "test", ["chromosome"])
    assert setup.build_data(other, "test", ["chromosome"]) is not alone
