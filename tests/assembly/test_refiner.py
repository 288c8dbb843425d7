"""The configured CRF, or knowledge in its place; what is given on the command line takes precedence over knowledge."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kemr_lightning.assembly import settings as assembly
from kemr_lightning.assembly.refiner import build_refiner
from kemr_lightning.core.errors import UserError
from kemr_lightning.refinement import CRFParams, Knowledge
from kemr_lightning.refinement.knowledge import from_params
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner
from kemr_lightning.refinement.refiner import Refiner
from tests.conftest import compose

LEARNED = CRFParams(sigma_alpha=3.0, sigma_beta=11.0, sigma_gamma=2.0, w1=4.0, w2=0.5, iterations=5)


@pytest.fixture
def knowledge(tmp_path: Path) -> Path:
    file = tmp_path / "knowledge.safetensors"
    from_params(LEARNED).save(file)
    return file


def build(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Any:
    """The refiner of a command line, started as Hydra starts it."""
    hydra = SimpleNamespace(overrides=SimpleNamespace(task=list(overrides)))
    monkeypatch.setattr(assembly.HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(assembly.HydraConfig, "get", lambda: hydra)
    return build_refiner(compose(*overrides))


def only_params(refiner: Any) -> CRFParams:
    assert isinstance(refiner, KnowledgeRefiner)
    (action,) = refiner.knowledge.actions
    return action.params


def test_the_configured_crf() -> None:
    refiner = build_refiner(compose("refine.sigma_alpha=4.5", "refine.margin=7"))
    assert isinstance(refiner, Refiner)
    assert (refiner.params.sigma_alpha, refiner.params.sigma_beta, refiner.margin) == (4.5, 9.0, 7)
    assert build_refiner(compose("refine=none")) is None


def test_knowledge_takes_its_place(knowledge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refiner = build(monkeypatch, f"knowledge='{knowledge}'")
    assert only_params(refiner) == LEARNED.numbers()


def test_what_is_given_takes_precedence_over_knowledge(
    knowledge: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refiner = build(monkeypatch, f"knowledge='{knowledge}'", "refine.sigma_beta=20", "++refine.w1=9")
    params = only_params(refiner)
    assert (params.sigma_alpha, params.sigma_beta, params.w1) == (3.0, 20.0, 9.0)
    assert "refine.sigma_beta=20" in caplog.text
    assert "overrides knowledge" in caplog.text


def test_no_refinement_overrides_knowledge(
    knowledge: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert build(monkeypatch, f"knowledge='{knowledge}'", "refine=none") is None
    assert "masks are not refined" in caplog.text
    with pytest.raises(UserError, match="does not exist"):
        build(monkeypatch, "knowledge=gone.safetensors", "refine=none")


@pytest.mark.parametrize("key", ["margin", "outside"])
def test_what_knowledge_was_learned_with_cannot_be_chosen(
    knowledge: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    with pytest.raises(UserError, match=rf"refine\.{key} is part of what knowledge=.* was learned with"):
        build(monkeypatch, f"knowledge='{knowledge}'", f"refine.{key}=0")


def test_a_warning_where_the_model_is_another(
    knowledge: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from_params(LEARNED, {"checkpoint": "a.ckpt", "checkpoint_sha256": "0" * 64}).save(knowledge)
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"weights")
    build_refiner(compose(f"knowledge='{knowledge}'"), other)
    assert "a.ckpt" in caplog.text
    assert Knowledge.load(knowledge).origin["checkpoint"] == "a.ckpt"


def test_a_wrong_parameter_is_named_with_its_key(knowledge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for overrides in (("refine.sigma_alpha=-1",), (f"knowledge='{knowledge}'", "refine.sigma_alpha=-1")):
        with pytest.raises(UserError, match=r"^refine\.sigma_alpha=-1"):
            build(monkeypatch, *overrides)
