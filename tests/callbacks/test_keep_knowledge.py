"""Which knowledge a test leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kemr_lightning.callbacks import keep_knowledge
from kemr_lightning.callbacks.keep_knowledge import KnowledgeCallback, knowledge_of
from kemr_lightning.callbacks.refinement import RefinementCallback
from kemr_lightning.core.contracts import MaskRefiner
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.knowledge import Knowledge, from_params
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner
from kemr_lightning.refinement.refiner import Refiner
from tests.callbacks.helpers import FakeModule, eroding, loader, samples, trainer

PARAMS = CRFParams(2, 9, 3, 3, 0, 2)


def test_a_configured_crf_is_knowledge_without_experiences() -> None:
    knowledge = knowledge_of(Refiner(PARAMS, margin=7))
    assert knowledge is not None
    assert [action.params for action in knowledge.actions] == [PARAMS]
    assert (knowledge.margin, knowledge.experiences) == (7, None)


def test_given_knowledge_is_kept_as_it_is() -> None:
    given = from_params(PARAMS, {"found_by": "a test"})
    assert knowledge_of(KnowledgeRefiner(given)) is given


@pytest.mark.parametrize("refiner", [None, eroding, Refiner(PARAMS, outside=0.3)], ids=["none", "unknown", "outside"])
def test_what_no_file_can_hold_is_not_written(tmp_path: Path, refiner: MaskRefiner | None) -> None:
    items, found = samples(2)
    callbacks = [RefinementCallback(refiner), KnowledgeCallback()]
    trainer(tmp_path, callbacks).test(FakeModule(found), loader(items), verbose=False)  # type: ignore[arg-type]
    assert (tmp_path / "metrics.json").exists()
    assert not list(tmp_path.glob("knowledge*"))


def test_a_test_writes_the_files_and_logs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    monkeypatch.setattr(keep_knowledge, "run_of", lambda _: "the run")
    monkeypatch.setattr(keep_knowledge, "log_knowledge", lambda *given: logged.append(given))
    items, found = samples(2)
    callbacks = [RefinementCallback(Refiner(PARAMS)), KnowledgeCallback(tmp_path / "run")]
    trainer(tmp_path, callbacks).test(FakeModule(found), loader(items), verbose=False)  # type: ignore[arg-type]
    files = [tmp_path / "run" / "knowledge.safetensors", tmp_path / "run" / "knowledge.txt"]
    assert Knowledge.load(files[0]).actions[0].params == PARAMS
    ((run, knowledge, given),) = logged
    assert (run, knowledge.actions[0].params, given) == ("the run", PARAMS, files)
