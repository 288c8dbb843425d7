from __future__ import annotations

import pytest

from kemr_lightning.core.errors import UserError
from kemr_lightning.learning.examples import examples_of
from kemr_lightning.learning.learn import CORRECTED, PLAIN, Lesson, OneGroupError, learn
from kemr_lightning.learning.learning_source import LearningSource
from kemr_lightning.learning.masked_images import MaskedImage
from kemr_lightning.learning.settings import LearnSettings
from kemr_lightning.refinement.experiences import HARM
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner
from tests.learning.helpers import rods

PART = {"val": {"images": 4, "iou_before": 0.7}}


def source(*seeds: int, groups: list[int] | None = None) -> LearningSource:
    cases = [rods(seed) for seed in seeds]
    if groups is not None:
        cases = [
            MaskedImage(case.image, case.initial, case.truth, own) for case, own in zip(cases, groups, strict=True)
        ]
    return LearningSource("val", cases, PART)


@pytest.fixture(scope="module")
def taught() -> tuple[Lesson, list[tuple[str, int, int]]]:
    """A lesson with everything in it, and what was told meanwhile."""
    told: list[tuple[str, int, int]] = []
    settings = LearnSettings(folds=2, evidence_epochs=6, evidence_width=4, crf_steps=4, iterations=2, margin=4)
    lesson = learn(source(0, 1, 2, 3), settings, {"data": "rods"}, lambda *step: told.append(step))
    return lesson, told


def test_learned_knowledge_improves_images_it_has_not_seen(taught: tuple[Lesson, object]) -> None:
    lesson, _ = taught
    case = rods(9)
    refined = KnowledgeRefiner(lesson.knowledge)(case.image, case.initial)
    old, new = (
        [example.iou(example.initial) for example in examples_of([MaskedImage(case.image, found, case.truth, 0)], 4)]
        for found in (case.initial, refined)
    )
    assert sum(new) > sum(old)


def test_figures_of_a_lesson_agree_with_its_experiences(taught: tuple[Lesson, object]) -> None:
    lesson, _ = taught
    experiences = lesson.knowledge.experiences
    assert experiences is not None
    assert list(lesson.fits) == [PLAIN, CORRECTED]
    assert len(experiences) == 24 * len(lesson.knowledge.actions)
    gains = []
    for number, action in enumerate(lesson.knowledge.actions, start=1):
        own = experiences.gain[experiences.actions == number]
        figures = lesson.figures[action.name]
        assert figures["iou_after"] - figures["iou_before"] == pytest.approx(float(own.mean()), abs=1e-5)
        assert figures["gained"] == pytest.approx(float((own > HARM).float().mean()))
        assert figures["lost"] == pytest.approx(float((own < -HARM).float().mean()))
        gains.append(figures["iou_after"])
    assert gains == sorted(gains, reverse=True)
    assert lesson.figures["experiences"]["lost"] <= 0.02
    assert lesson.gain > 0
    assert lesson.gain == pytest.approx(
        lesson.figures["experiences"]["iou_after"] - lesson.figures["experiences"]["iou_before"]
    )


def test_the_origin_is_complete(taught: tuple[Lesson, object]) -> None:
    lesson, _ = taught
    origin = lesson.knowledge.origin
    assert list(origin) == ["data", "images", "instances", "out_of_sample"]
    assert (origin["data"], origin["images"], origin["instances"]) == ("rods", 4, 24)
    names = [action.name for action in lesson.knowledge.actions]
    assert list(origin["out_of_sample"]) == [*names, "experiences", "initial masks of val images"]
    assert origin["out_of_sample"]["initial masks of val images"] == PART["val"]
    assert lesson.knowledge.margin == 4


def test_every_stage_is_reported_from_first_step_to_last(taught: tuple[Lesson, list[tuple[str, int, int]]]) -> None:
    lesson, told = taught
    stages = {stage: [step[1:] for step in told if step[0] == stage] for stage, _, _ in told}
    # Six epochs for each of two folds and for the final network; four steps from each of three starts.
    assert stages.pop("evidence network") == [(done, 18) for done in range(1, 19)]
    assert stages == {
        f"CRF parameters ({name})": [(done, 12) for done in range(1, 13)] for name in ("crf", "evidence + crf")
    }
    assert [(fold, epoch) for fold, epoch, _ in lesson.evidence_curve] == [
        (fold, epoch) for fold in (0, 1, -1) for epoch in range(1, 7)
    ]


def test_without_evidence_there_is_one_way_to_refine_and_no_network() -> None:
    settings = LearnSettings(folds=2, evidence=False, crf_steps=1, iterations=1, margin=2)
    lesson = learn(source(0, 1, 2, 3), settings, {})
    assert list(lesson.fits) == [PLAIN]
    assert lesson.knowledge.evidence is None
    assert not any(action.evidence for action in lesson.knowledge.actions)
    assert lesson.evidence_curve == []


def test_too_little_to_learn_from_is_said() -> None:
    with pytest.raises(UserError, match="6 matched instances on 1 images"):
        learn(source(0), LearnSettings(), {})


def test_one_slide_is_not_enough() -> None:
    with pytest.raises(OneGroupError, match="one slide or case"):
        learn(source(0, 1, 2, 3, groups=[5, 5, 5, 5]), LearnSettings(), {})
