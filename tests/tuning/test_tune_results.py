from __future__ import annotations

import csv
import json
import logging
from pathlib import Path

import pytest

from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.tuning.scoring import SCORES
from kemr_lightning.tuning.study import Search
from kemr_lightning.tuning.tune_results import Baseline, TuneResults, write_findings
from tests.tuning.helpers import height, search

LOW, HIGH = dict.fromkeys(SCORES, 40.0), dict.fromkeys(SCORES, 99.999)
ORIGIN = {"checkpoint": "best.ckpt", "checkpoint_sha256": "0" * 64, "data": "images, val images"}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Search:
    found = search(str(tmp_path_factory.mktemp("study") / "study.journal"))
    found.run(12)
    return found


def test_the_best_trial_is_found(searched: Search) -> None:
    findings = TuneResults.of(searched, Baseline(LOW, LOW), "here")
    values = [height(CRFParams(**trial.user_attrs["crf"])) for trial in searched.ended()]
    assert findings.best == dict.fromkeys(SCORES, max(values))
    assert height(findings.params) == max(values)
    states = [trial.state.name for trial in searched.ended()]
    assert (findings.trials, findings.pruned, findings.images) == (12, states.count("PRUNED"), 3)
    assert (findings.study, findings.storage, findings.objective) == ("s", "here", "MaskAP")


def test_configured_parameters_that_are_not_beaten_are_kept(searched: Search, caplog: pytest.LogCaptureFixture) -> None:
    findings = TuneResults.of(searched, Baseline(LOW, HIGH), "here")
    assert (findings.params, findings.best) == (searched.refiner.params, HIGH)
    assert "they are kept" in caplog.text


def test_files_of_findings(searched: Search, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    findings = TuneResults.of(searched, Baseline(LOW, dict.fromkeys(SCORES, 50.0)), "here")
    with caplog.at_level(logging.INFO):
        write_findings(findings, searched, ORIGIN, tmp_path)
    content = json.loads((tmp_path / "tune.json").read_text())
    assert list(content) == [
        "objective", "study", "storage", "trials", "pruned", "images", "initial", "configured", "best", "params",
        "importance",
    ]  # fmt: skip
    assert content["params"] == vars(findings.params)
    assert content["initial"] == LOW
    knowledge = Knowledge.load(tmp_path / "knowledge.safetensors")
    (action,) = knowledge.actions
    assert (action.params, knowledge.margin, knowledge.experiences) == (findings.params, 7, None)
    best = findings.best["MaskAP"]
    expected = {**ORIGIN, "images": 3, "found_by": f"task=tune, 12 trials: MaskAP 40.00 -> {best:.2f}"}
    assert list(knowledge.origin.items()) == list(expected.items())
    assert (tmp_path / "knowledge.txt").read_text() == knowledge.describe() + "\n"
    with (tmp_path / "trials.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["trial"]) for row in rows] == list(range(12))
    assert max(float(row["MaskAP"]) for row in rows) == best
    assert (tmp_path / "figures" / "history.png").stat().st_size > 1000
    assert f"MaskAP: 40.00 initial, 50.00 configured, {best:.2f} best" in caplog.text
