from __future__ import annotations

import pytest
import torch

from kemr_lightning.core.errors import UserError
from kemr_lightning.learning.examples import examples_of
from kemr_lightning.learning.fit_evidence import fit_evidence
from kemr_lightning.learning.learn import LearnSettings, learn
from kemr_lightning.refinement.evidence import corrected_logits
from kemr_lightning.refinement.knowing_refiner import KnowingRefiner
from tests.learning.helpers import rods


def test_evidence_learned_on_some_images_improves_others() -> None:
    taught, unseen = examples_of([rods(0), rods(1)], 4), examples_of([rods(2)], 4)
    network = fit_evidence(taught, epochs=12, seed=0, width=8, learning_rate=1e-2, batch_size=4)
    before = [example.iou(example.crop.crop(example.crop.prob)) for example in unseen]
    logits = corrected_logits(network, [example.crop for example in unseen])
    after = [example.iou(example.crop.crop(one.sigmoid())) for example, one in zip(unseen, logits, strict=True)]
    assert sum(after) / len(after) > sum(before) / len(before) + 0.05


def test_fitting_twice_gives_the_same_network() -> None:
    examples = examples_of([rods(0, 3)], 4)
    first, second = (fit_evidence(examples, 1, 7, width=4) for _ in range(2))
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_learned_knowledge_improves_images_it_has_not_seen() -> None:
    told: list[tuple[str, int, int]] = []
    settings = LearnSettings(folds=2, evidence_epochs=6, evidence_width=4, crf_steps=4, iterations=2, margin=4)
    lesson = learn([rods(seed) for seed in range(4)], settings, {"data": "rods"}, lambda *step: told.append(step))
    assert lesson.figures["experiences"]["lost"] <= 0.02
    assert lesson.figures["experiences"]["iou_after"] > lesson.figures["experiences"]["iou_before"]
    assert lesson.knowledge.origin["instances"] == 24
    assert {stage for stage, _, _ in told} == {
        "evidence network",
        "CRF parameters (crf)",
        "CRF parameters (evidence + crf)",
    }
    case = rods(9)
    refined = KnowingRefiner(lesson.knowledge)(case.image, case.initial)
    old, new = (
        [
            example.iou(example.crop.crop(example.crop.prob))
            for example in examples_of([case.__class__(case.image, found, case.truth, 0)], 4)
        ]
        for found in (case.initial, refined)
    )
    assert sum(new) > sum(old)


def test_too_little_to_learn_from_is_said() -> None:
    with pytest.raises(UserError, match="6 matched instances on 1 images"):
        learn([rods(0)], LearnSettings(), {})
