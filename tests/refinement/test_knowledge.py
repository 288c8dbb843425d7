"""Knowledge files: what comes back, what is refused, and the description in words."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kemr_lightning.core.digests import file_digest
from kemr_lightning.core.errors import UserError
from kemr_lightning.refinement import (
    CRFParams,
)
from kemr_lightning.refinement.actions import Action
from kemr_lightning.refinement.knowledge import Knowledge, from_params
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner
from kemr_lightning.refinement.reasoning import Reasoning
from kemr_lightning.refinement.restraint import Restraint
from tests.refinement.helpers import PARAMS, knowledge_of, scene


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    before = knowledge_of()
    before.save(tmp_path / "deep" / "k.safetensors")
    after = Knowledge.load(tmp_path / "deep" / "k.safetensors")
    assert after.actions == before.actions
    assert after.reasoning == before.reasoning
    assert (after.margin, after.origin) == (before.margin, before.origin)
    assert after.experiences is not None
    assert before.experiences is not None
    for name, value in vars(before.experiences).items():
        assert torch.equal(getattr(after.experiences, name), value), name
    image, instances = scene()
    first, second = KnowledgeRefiner(before)(image, instances), KnowledgeRefiner(after)(image, instances)
    for a, b in zip(first.patches or [], second.patches or [], strict=True):
        assert torch.equal(a.values, b.values)
    assert after.describe() == before.describe()


def test_description_tells_a_person_the_essentials() -> None:
    text = knowledge_of().describe()
    for word in ("best.ckpt", "sigma_beta 15", "temperature 1.5", "elongation", "30 instances", "+0.1000", "5 nearest"):
        assert word in text


def test_bad_files_are_named_with_a_cure(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    knowledge_of().save(good)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-100])
    noise = tmp_path / "noise.safetensors"
    noise.write_bytes(b"no knowledge")
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other)
    old = tmp_path / "old.safetensors"
    save_file(load_file(good), old, metadata={"format": "kemr_lightning.knowledge", "version": "99", "document": "{}"})
    torn = tmp_path / "torn.safetensors"
    save_file(
        {}, torn, metadata={"format": "kemr_lightning.knowledge", "version": "2", "document": json.dumps({"a": 1})}
    )
    for path, words in (
        (tmp_path / "none.safetensors", "does not exist"),
        (cut, "cut short"),
        (noise, "damaged"),
        (other, "not a knowledge file"),
        (old, "version 99"),
        (torn, "contradicts itself"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            Knowledge.load(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda document, tensors: document["reasoning"].update(neighbours=0),
            "neighbours must be .* 1 or more, not 0",
        ),
        (lambda document, tensors: document["reasoning"].update(neighbours=-3), "neighbours must be"),
        (lambda document, tensors: document["reasoning"].update(neighbours=2.5), "neighbours must be a whole number"),
        (
            lambda document, tensors: document["reasoning"].update(price=float("nan")),
            "price must be 0 or more, not nan",
        ),
        (lambda document, tensors: document["reasoning"].update(price=-1.0), "price must be"),
        (lambda document, tensors: document.update(margin=-1), "margin must be"),
        (
            lambda document, tensors: tensors["experiences.actions"].fill_(3),
            r"actions \[3\], but there are only actions 1 to 2",
        ),
        (lambda document, tensors: tensors["experiences.actions"].fill_(0), r"actions \[0\]"),
        (lambda document, tensors: tensors["experiences.after"].fill_(7), "IoUs of experiences"),
        (lambda document, tensors: tensors["experiences.states"].fill_(float("nan")), "states of experiences"),
        (lambda document, tensors: tensors["evidence.confidence"].fill_(float("nan")), "weights are not finite"),
    ],
)
def test_nonsense_in_a_whole_file_is_named(change: Callable[..., object], words: str, tmp_path: Path) -> None:
    file = tmp_path / "k.safetensors"
    knowledge_of().save(file)
    tensors = load_file(file)
    with safe_open(file, framework="pt") as content:
        header = content.metadata()
    document = json.loads(header["document"])
    change(document, tensors)
    save_file(tensors, file, metadata={**header, "document": json.dumps(document)})
    with pytest.raises(UserError, match=words) as caught:
        Knowledge.load(file)
    assert str(file) in str(caught.value)


def test_a_fitted_tensor_is_kept_as_its_number(tmp_path: Path) -> None:
    from_params(CRFParams(w1=torch.tensor(4.0, requires_grad=True) * 2)).save(tmp_path / "k.safetensors")
    assert Knowledge.load(tmp_path / "k.safetensors").actions[0].params == CRFParams(w1=8.0)


def test_another_checkpoint_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine, other = tmp_path / "mine.ckpt", tmp_path / "other.ckpt"
    mine.write_bytes(b"mine")
    other.write_bytes(b"other")
    knowledge = from_params(PARAMS, {"checkpoint": "mine.ckpt", "checkpoint_sha256": file_digest(mine)})
    with caplog.at_level(logging.WARNING):
        assert knowledge.warn_unless_from(mine)
        assert not caplog.records
        assert not knowledge.warn_unless_from(other)
    assert "mine.ckpt" in caplog.text


def test_saving_leaves_no_unfinished_file(tmp_path: Path) -> None:
    knowledge_of().save(tmp_path / "k.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["k.safetensors"]


def test_a_file_of_this_version_written_by_an_older_program_is_read(tmp_path: Path) -> None:
    """The document word for word as such files hold it."""
    crf = (
        '{"sigma_alpha": 2.5, "sigma_beta": 14.0, "sigma_gamma": 3.0, "w1": 4.0, "w2": 0.5, "iterations": 4,'
        ' "temperature": 1.5}'
    )
    document = (
        '{"actions": [{"name": "crf, careful", "evidence": false, "crf": ' + crf + ', "restraint": {"step": 0.5, '
        '"area": null}}], "evidence_width": null, "reasoning": {"neighbours": 5, "price": 0.1}, "margin": 7, "states": '
        '["log_area", "elongation", "confidence", "rim_entropy", "rim_share", "contrast", "homogeneity", "overlap", '
        '"contact", "disagreement", "score", "change"], "origin": {"checkpoint": "best.ckpt", "images": 3}}'
    )
    header = {"format": "kemr_lightning.knowledge", "version": "2", "document": document}
    save_file({}, tmp_path / "k.safetensors", metadata=header)
    knowledge = Knowledge.load(tmp_path / "k.safetensors")
    params = CRFParams(2.5, 14.0, 3.0, 4.0, 0.5, 4, 1.5)
    assert knowledge.actions == (Action("crf, careful", params, False, Restraint(0.5)),)
    assert (knowledge.reasoning, knowledge.margin) == (Reasoning(5, 0.1), 7)
    assert knowledge.origin == {"checkpoint": "best.ckpt", "images": 3}
    assert (knowledge.evidence, knowledge.experiences) == (None, None)


@pytest.mark.parametrize(
    "change",
    [
        {"margin": float("inf")},
        {"margin": float("nan")},
        {"margin": 10**400},
        {"margin": "10"},
        {"margin": -1},
        {"margin": 10**9},
        {"actions": 5},
        {"actions": [5]},
        {"actions": [[]]},
        {"actions": [{"name": 5}]},
        {"actions": {}},
        {"evidence_width": 10**9},
        {"evidence_width": -3},
        {"evidence_width": "wide"},
        {"origin": 5},
        {"reasoning": 5},
        {"reasoning": {"neighbours": float("inf"), "price": 0.2}},
    ],
)
def test_wrong_values_in_a_file_are_one_line(tmp_path: Path, change: dict[str, object]) -> None:
    file = tmp_path / "k.safetensors"
    knowledge_of().save(file)
    with safe_open(file, framework="pt") as content:
        header = content.metadata()
    document = json.loads(header["document"])
    save_file(load_file(file), file, {**header, "document": json.dumps(document | change)})
    with pytest.raises(UserError, match="contradicts itself") as caught:
        Knowledge.load(file)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500 + len(str(file))


@pytest.mark.parametrize("name", [5, None, "", ["a"], {}])
def test_an_action_has_a_name(tmp_path: Path, name: object) -> None:
    file = tmp_path / "k.safetensors"
    knowledge_of().save(file)
    with safe_open(file, framework="pt") as content:
        header = content.metadata()
    document = json.loads(header["document"])
    document["actions"][0]["name"] = name
    save_file(load_file(file), file, {**header, "document": json.dumps(document)})
    with pytest.raises(UserError, match="an action has the name"):
        Knowledge.load(file)


@pytest.mark.parametrize("text", ["[]", "5", "null", "[" * 100_000, '"x"', "1" * 5000])
def test_a_header_that_is_no_document_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "k.safetensors"
    knowledge_of().save(file)
    with safe_open(file, framework="pt") as content:
        header = content.metadata()
    save_file(load_file(file), file, {**header, "document": text})
    with pytest.raises(UserError, match="contradicts itself"):
        Knowledge.load(file)
