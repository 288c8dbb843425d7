from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from kemr_lightning.core.digests import file_digest
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.refinement import CRFParams, Refiner, actions, knowing_refiner
from kemr_lightning.refinement.actions import Action
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.dense_crf import RefinementError
from kemr_lightning.refinement.evidence import EvidenceNet
from kemr_lightning.refinement.experiences import Experiences, Reasoning
from kemr_lightning.refinement.knowing_refiner import KnowingRefiner
from kemr_lightning.refinement.knowledge import Knowledge, from_params
from kemr_lightning.refinement.restraint import Restraint
from kemr_lightning.refinement.states import STATE_NAMES

PARAMS = CRFParams(2.0, 15.0, 2.0, 4.0, 0.5, 3, 1.5)


def _knowledge(gain: float = 0.1) -> Knowledge:
    count, width = 30, len(STATE_NAMES)
    chance = torch.Generator().manual_seed(0)
    experiences = Experiences(
        torch.rand(2 * count, width, generator=chance),
        torch.tensor([1] * count + [2] * count),
        torch.full((2 * count,), 0.7),
        torch.tensor([0.7 + gain] * count + [0.7 + gain / 2] * count),
        torch.arange(2 * count),
    )
    ways = (Action("evidence + crf", PARAMS, True, Restraint(0.5, 0.02)), Action("crf", CRFParams(), False))
    origin = {"checkpoint": "best.ckpt", "checkpoint_sha256": "0" * 64, "images": 3}
    return Knowledge(ways, EvidenceNet(4).eval(), experiences, Reasoning(5, 0.2), 6, origin)


def _scene() -> tuple[torch.Tensor, Instances]:
    chance = torch.Generator().manual_seed(1)
    image = torch.randint(0, 60, (40, 50), dtype=torch.uint8, generator=chance)
    image[10:25, 12:30] += 120
    values = torch.full((19, 22), 0.1)
    values[3:17, 3:19] = 0.7
    boxes = torch.tensor([[10.0, 8, 32, 27], [0.0, 0, 5, 5]])
    patches = [Patch(10, 8, values), Patch(0, 0, torch.full((5, 5), 0.4))]
    return image, Instances((40, 50), boxes, torch.tensor([0.9, 0.6]), torch.ones(2, dtype=torch.int64), patches)


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    before = _knowledge()
    before.save(tmp_path / "deep" / "k.safetensors")
    after = Knowledge.load(tmp_path / "deep" / "k.safetensors")
    assert after.actions == before.actions
    assert after.reasoning == before.reasoning
    assert (after.margin, after.origin) == (before.margin, before.origin)
    assert after.experiences is not None
    assert before.experiences is not None
    for name, value in vars(before.experiences).items():
        assert torch.equal(getattr(after.experiences, name), value), name
    image, instances = _scene()
    first, second = KnowingRefiner(before)(image, instances), KnowingRefiner(after)(image, instances)
    for a, b in zip(first.patches or [], second.patches or [], strict=True):
        assert torch.equal(a.values, b.values)
    assert after.describe() == before.describe()


def test_description_tells_a_person_the_essentials() -> None:
    text = _knowledge().describe()
    for word in ("best.ckpt", "sigma_beta 15", "temperature 1.5", "elongation", "30 instances", "+0.1000", "5 nearest"):
        assert word in text


def test_one_parameter_set_is_knowledge_and_refines_as_the_refiner_does() -> None:
    image, instances = _scene()
    knowing = KnowingRefiner(from_params(PARAMS))(image, instances)
    plain = Refiner(PARAMS)(image, instances)
    for a, b in zip(knowing.patches or [], plain.patches or [], strict=True):
        assert (a.x0, a.y0) == (b.x0, b.y0)
        assert torch.allclose(a.values, b.values, atol=2e-2)


@pytest.mark.parametrize(("gain", "action"), [(0.1, 1), (-0.1, 0), (-0.005, 0)])
def test_experiences_decide_whether_a_mask_changes(gain: float, action: int) -> None:
    image, instances = _scene()
    refined, chosen = KnowingRefiner(_knowledge(gain)).decide(image, instances)
    assert chosen.tolist() == [action, action]
    assert torch.equal(refined.boxes, instances.boxes)
    same = torch.equal((refined.patches or [])[0].values, (instances.patches or [])[0].values)
    assert same == (action == 0)


def test_nan_names_the_instance() -> None:
    image, instances = _scene()
    (instances.patches or [])[1].values[0, 0] = float("nan")
    with pytest.raises(RefinementError, match="instance 1"):
        KnowingRefiner(_knowledge())(image, instances)


@pytest.mark.parametrize("knowledge", [_knowledge(), from_params(PARAMS)], ids=["experienced", "plain"])
def test_patches_are_checked_as_the_refiner_does(knowledge: Knowledge) -> None:
    image, instances = _scene()
    (instances.patches or [])[1].values[0, 0] = float("inf")
    for refiner in (KnowingRefiner(knowledge), Refiner(PARAMS)):
        with pytest.raises(RefinementError, match="instance 1: its probability contains inf"):
            refiner(image, instances)
        for patch in (Patch(45, 3, torch.rand(9, 9)), Patch(-2, 3, torch.rand(9, 9)), Patch(1, 1, torch.rand(0, 3))):
            outside = replace(instances, patches=[(instances.patches or [])[0], patch])
            with pytest.raises(RefinementError, match=r"instance 1: its patch .* is empty or leaves the image"):
                refiner(image, outside)


def test_the_evidence_network_follows_the_patches_to_their_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ``meta``, where nothing is computed but tensors of two devices are refused as on a GPU."""

    class ReachedError(Exception):
        pass

    def crf(crops: Crops, *_: object) -> torch.Tensor:
        raise ReachedError(str(crops.prob.device))

    image, instances = _scene()
    there = [Patch(patch.x0, patch.y0, patch.values.to("meta")) for patch in instances.patches or []]
    knowledge = _knowledge()
    monkeypatch.setattr(knowing_refiner, "check_probability", lambda *_: None)
    monkeypatch.setattr(actions, "refine_packed", crf)
    refiner = KnowingRefiner(knowledge)
    for refine in (refiner, KnowingRefiner(replace(knowledge, experiences=None))):
        with pytest.raises(ReachedError, match="meta"):
            refine(image.to("meta"), replace(instances, patches=there))
    assert refiner._evidence_on(torch.device("meta")) is refiner._evidence_on(torch.device("meta"))
    assert knowledge.evidence is refiner._evidence_on(torch.device("cpu"))
    assert knowledge.evidence is not None
    assert knowledge.evidence.confidence.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_decides_as_the_cpu_does() -> None:
    image, instances = _scene()
    there = [Patch(patch.x0, patch.y0, patch.values.cuda()) for patch in instances.patches or []]
    wanted, wanted_actions = KnowingRefiner(_knowledge()).decide(image, instances)
    refined, chosen = KnowingRefiner(_knowledge()).decide(image.cuda(), replace(instances, patches=there))
    assert torch.equal(chosen, wanted_actions)
    for a, b in zip(refined.patches or [], wanted.patches or [], strict=True):
        assert a.values.is_cuda
        assert float((a.values.cpu() - b.values).abs().max()) < 0.02


def test_no_instances_and_boxes_only_come_back_unchanged() -> None:
    image = torch.zeros(10, 10, dtype=torch.uint8)
    refiner = KnowingRefiner(_knowledge())
    assert len(refiner(image, Instances.empty((10, 10)))) == 0
    boxes = Instances((10, 10), torch.zeros(1, 4), torch.ones(1), torch.ones(1, dtype=torch.int64), None)
    assert refiner(image, boxes) is boxes


def test_bad_files_are_named_with_a_cure(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    _knowledge().save(good)
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
        (torn, "does not hold together"),
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
            r"actions \[3\], and there are actions 1 to 2",
        ),
        (lambda document, tensors: tensors["experiences.actions"].fill_(0), r"actions \[0\]"),
        (lambda document, tensors: tensors["experiences.after"].fill_(7), "IoUs of experiences"),
        (lambda document, tensors: tensors["experiences.states"].fill_(float("nan")), "states of experiences"),
        (lambda document, tensors: tensors["evidence.confidence"].fill_(float("nan")), "weights are not finite"),
    ],
)
def test_nonsense_in_a_whole_file_is_named(change: Callable[..., object], words: str, tmp_path: Path) -> None:
    file = tmp_path / "k.safetensors"
    _knowledge().save(file)
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
    _knowledge().save(tmp_path / "k.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["k.safetensors"]
