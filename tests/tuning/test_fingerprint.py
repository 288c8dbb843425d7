from __future__ import annotations

from dataclasses import replace

from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.refiner import Refiner
from kemr_lightning.tuning.fingerprint import fingerprint
from kemr_lightning.tuning.scoring import ScoredImages, Scorer
from tests.tuning.helpers import scene, scorer

REFINER = Refiner(CRFParams())


def test_the_same_study_has_the_same_fingerprint() -> None:
    one = fingerprint("model", scorer(), REFINER)
    assert len(one) == 16
    # Neither the memory nor the parameters, which trials change, count.
    assert fingerprint("model", scorer(memory_mb=0), Refiner(CRFParams(w1=9.0))) == one


def test_all_that_changes_a_trials_value_changes_it() -> None:
    images = scorer().images
    fingerprints = [
        fingerprint("model", scorer(), REFINER),
        fingerprint("another model", scorer(), REFINER),
        fingerprint("model", scorer(count=6), REFINER),
        fingerprint("model", scorer(chunks=2), REFINER),
        fingerprint("model", scorer(seed=4), REFINER),
        fingerprint("model", Scorer(images, 3, ia_score=0.4), REFINER),
        fingerprint("model", Scorer(images, 3, ia_iou=0.6), REFINER),
        fingerprint("model", scorer(), Refiner(CRFParams(), engine="exact")),
        fingerprint("model", scorer(), Refiner(CRFParams(), margin=3)),
        fingerprint("model", scorer(), Refiner(CRFParams(), tolerance=0.1)),
    ]
    assert len(set(fingerprints)) == len(fingerprints)


def test_pixels_and_annotations_count_but_names_do_not() -> None:
    sample, predicted = scene(1)
    brighter = replace(sample, image=sample.image + 1)
    _, truth = scene(2)
    other_truth = replace(sample, instances=replace(truth, scores=truth.scores))
    renamed = replace(sample, name="b.png")
    one, two, three, four = (
        fingerprint("model", Scorer(ScoredImages([each], lambda _: predicted), 1), REFINER)
        for each in (sample, brighter, other_truth, renamed)
    )
    assert len({one, two, three}) == 3
    assert four == one
