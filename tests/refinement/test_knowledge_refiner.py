"""Refinement by knowledge: which masks change, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.refinement import (
    RefinementError,
    Refiner,
    actions,
    knowledge_refiner,
)
from kemr_lightning.refinement.crops import Crops
from kemr_lightning.refinement.knowledge import Knowledge, from_params
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner
from tests.refinement.helpers import PARAMS, knowledge_of, scene


def test_one_parameter_set_is_knowledge_and_refines_as_the_refiner_does() -> None:
    image, instances = scene()
    knowing = KnowledgeRefiner(from_params(PARAMS))(image, instances)
    plain = Refiner(PARAMS)(image, instances)
    for a, b in zip(knowing.patches or [], plain.patches or [], strict=True):
        assert (a.x0, a.y0) == (b.x0, b.y0)
        assert torch.allclose(a.values, b.values, atol=2e-2)


@pytest.mark.parametrize(("gain", "action"), [(0.1, 1), (-0.1, 0), (-0.005, 0)])
def test_experiences_decide_whether_a_mask_changes(gain: float, action: int) -> None:
    image, instances = scene()
    refined, chosen = KnowledgeRefiner(knowledge_of(gain)).decide(image, instances)
    assert chosen.tolist() == [action, action]
    assert torch.equal(refined.boxes, instances.boxes)
    same = torch.equal((refined.patches or [])[0].values, (instances.patches or [])[0].values)
    assert same == (action == 0)


def test_nan_names_the_instance() -> None:
    image, instances = scene()
    (instances.patches or [])[1].values[0, 0] = float("nan")
    with pytest.raises(RefinementError, match="instance 1"):
        KnowledgeRefiner(knowledge_of())(image, instances)


@pytest.mark.parametrize("knowledge", [knowledge_of(), from_params(PARAMS)], ids=["experienced", "plain"])
def test_patches_are_checked_as_the_refiner_does(knowledge: Knowledge) -> None:
    image, instances = scene()
    (instances.patches or [])[1].values[0, 0] = float("inf")
    for refiner in (KnowledgeRefiner(knowledge), Refiner(PARAMS)):
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

    image, instances = scene()
    there = [Patch(patch.x0, patch.y0, patch.values.to("meta")) for patch in instances.patches or []]
    knowledge = knowledge_of()
    monkeypatch.setattr(knowledge_refiner, "check_probability", lambda *_: None)
    monkeypatch.setattr(actions, "refine_packed", crf)
    refiner = KnowledgeRefiner(knowledge)
    for refine in (refiner, KnowledgeRefiner(replace(knowledge, experiences=None))):
        with pytest.raises(ReachedError, match="meta"):
            refine(image.to("meta"), replace(instances, patches=there))
    assert refiner._evidence_on(torch.device("meta")) is refiner._evidence_on(torch.device("meta"))
    assert knowledge.evidence is refiner._evidence_on(torch.device("cpu"))
    assert knowledge.evidence is not None
    assert knowledge.evidence.confidence.device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_decides_as_the_cpu_does() -> None:
    image, instances = scene()
    there = [Patch(patch.x0, patch.y0, patch.values.cuda()) for patch in instances.patches or []]
    wanted, wanted_actions = KnowledgeRefiner(knowledge_of()).decide(image, instances)
    refined, chosen = KnowledgeRefiner(knowledge_of()).decide(image.cuda(), replace(instances, patches=there))
    assert torch.equal(chosen, wanted_actions)
    for a, b in zip(refined.patches or [], wanted.patches or [], strict=True):
        assert a.values.is_cuda
        assert float((a.values.cpu() - b.values).abs().max()) < 0.02


def test_no_instances_and_boxes_only_come_back_unchanged() -> None:
    image = torch.zeros(10, 10, dtype=torch.uint8)
    refiner = KnowledgeRefiner(knowledge_of())
    assert len(refiner(image, Instances.empty((10, 10)))) == 0
    boxes = Instances((10, 10), torch.zeros(1, 4), torch.ones(1), torch.ones(1, dtype=torch.int64), None)
    assert refiner(image, boxes) is boxes
