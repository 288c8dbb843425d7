"""A whole tuning on drawn images."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Instances
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.refiner import Refiner
from kemr_lightning.tuning.ranges import Range
from kemr_lightning.tuning.scoring import ScoredImages, Scorer
from kemr_lightning.tuning.settings import TuneSettings
from kemr_lightning.tuning.study import Search
from kemr_lightning.tuning.tune import measure_baseline, open_search, run_search
from tests.tuning.helpers import scene, scorer

REFINER = Refiner(CRFParams(2.0, 9.0, 3.0, 0.5, 0.0))
RANGES = {"w1": Range(0.5, 8.0), "sigma_beta": Range(5.0, 60.0)}


def settings(tmp_path: Path, **other: Any) -> TuneSettings:
    given: dict[str, Any] = {"source": "val", "objective": "MaskAP", "trials": 5, "timeout": None, "chunks": 3}
    given |= {"storage": str(tmp_path / "study.journal"), "startup": 2, "memory_mb": 64}
    return TuneSettings(**{**given, **other})


class Listener:
    """Stands for a logger."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.status: list[str] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.steps.append(step)

    def finalize(self, status: str) -> None:
        self.status.append(status)


def opened(tmp_path: Path, model: str = "model", **other: Any) -> Search:
    return open_search(scorer(), REFINER, RANGES, settings(tmp_path, **other), model, seed=0)


def test_a_tuning_finds_better_parameters_and_its_knowledge_scores_the_same(tmp_path: Path) -> None:
    listener: Any = Listener()
    baseline = measure_baseline(scorer(), REFINER, settings(tmp_path))
    found = run_search(opened(tmp_path), baseline, settings(tmp_path), {"data": "scenes"}, tmp_path, [listener])
    assert found.best["MaskAP"] > found.configured["MaskAP"]
    assert (found.initial, found.configured) == (scorer().initial(), scorer().all(REFINER))
    (action,) = Knowledge.load(tmp_path / "knowledge.safetensors").actions
    assert scorer().all(Refiner(action.params)) == found.best
    assert (listener.steps, listener.status) == (list(range(5)), ["success"])


def test_a_study_resumes_only_if_its_trials_are_comparable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(tmp_path).run(2)
    with caplog.at_level(logging.INFO):
        assert len(opened(tmp_path).ended()) == 2
    assert f"{tmp_path / 'study.journal'} has 2 trials of this study" in caplog.text
    assert opened(tmp_path, model="another").ended() == []
    assert opened(tmp_path, objective="IA").ended() == []


def test_what_was_found_is_kept_when_the_search_is_interrupted(tmp_path: Path) -> None:
    class Interrupting(Listener):
        def log_metrics(self, metrics: dict[str, float], step: int) -> None:
            super().log_metrics(metrics, step)
            if step == 1:
                raise KeyboardInterrupt

    listener: Any = Interrupting()
    baseline = measure_baseline(scorer(), REFINER, settings(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        run_search(opened(tmp_path), baseline, settings(tmp_path), {}, tmp_path, [listener])
    assert Knowledge.load(tmp_path / "knowledge.safetensors").origin["found_by"].startswith("task=tune, 2 trials")
    assert listener.status == ["failed"]


def test_a_timeout_before_the_first_trial_is_the_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search, "run", lambda *_: None)
    given = settings(tmp_path, timeout=0.5)
    baseline = measure_baseline(scorer(), REFINER, given)
    with pytest.raises(SettingError, match="Give more seconds") as caught:
        run_search(opened(tmp_path), baseline, given, {}, tmp_path, [])
    assert (caught.value.setting, caught.value.value) == ("timeout", 0.5)
    assert not (tmp_path / "tune.json").exists()


def test_images_without_annotations_cannot_be_scored(tmp_path: Path) -> None:
    sample, predicted = scene(1)
    bare = replace(sample, instances=Instances.empty((40, 40)))
    nothing = Scorer(ScoredImages([bare], lambda _: predicted), 1)
    assert math.isnan(nothing.initial()["MaskAP"])
    with pytest.raises(SettingError, match="no annotated instance") as caught:
        measure_baseline(nothing, REFINER, settings(tmp_path))
    assert (caught.value.setting, caught.value.value) == ("source", "val")
