"""Scores against the metric, pycocotools and a hand-made case."""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import replace

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Patch, Sample
from kemr_lightning.metrics.records import ImageRecord, record
from kemr_lightning.metrics.segmentation import headline
from kemr_lightning.output.result_files import ground_truth, results
from kemr_lightning.refinement.dense_crf import CRFParams
from kemr_lightning.refinement.refiner import Refiner
from kemr_lightning.tuning.scoring import SCORES, ScoredImages, Scorer, score_masks
from tests.tuning.helpers import scene, scorer


def refined_records(refiner: Refiner, count: int = 5) -> list[ImageRecord]:
    """What the scorer scores, made without it."""
    return [
        record(refiner(sample.image, predicted), sample.instances, sample.image_id)  # type: ignore[arg-type]
        for sample, predicted in (scene(number) for number in range(1, count + 1))
    ]


def coco_figures(records: list[ImageRecord]) -> dict[str, float]:
    """MaskAP, AP50 and AP75 by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = ground_truth(records)
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results(records)), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("MaskAP", "AP50", "AP75"), (100 * evaluation.stats[:3]).tolist(), strict=True))


@pytest.mark.parametrize("memory", [0, 64])
def test_a_scorers_last_part_is_the_metric_of_all_images(memory: int) -> None:
    scored = scorer(memory_mb=memory)
    assert scored.ends == [2, 4, 5]
    refiner = Refiner(CRFParams(sigma_alpha=3.0, sigma_beta=40.0, w1=6.0, w2=1.0))
    parts = list(scored.parts(refiner))
    assert len(parts) == 3
    refined = refined_records(refiner)
    initial = [record(p, s.instances, s.image_id) for s, p in map(scene, range(1, 6))]  # type: ignore[arg-type]
    for figures, records in ((scored.initial(), initial), (scored.all(refiner), refined), (parts[-1], refined)):
        assert figures == {name: headline(records)[name] for name in SCORES}
        expected = coco_figures(records)
        assert {name: figures[name] for name in expected} == pytest.approx(expected)
    assert scored.initial()["MaskAP"] < scored.all(refiner)["MaskAP"]


def test_each_part_scores_the_images_so_far_in_the_drawn_order() -> None:
    scored, refiner = scorer(), Refiner(CRFParams())
    refined = refined_records(refiner)
    for end, figures in zip(scored.ends, scored.parts(refiner), strict=True):
        records = [refined[index] for index in scored.images.order[:end]]
        assert figures == {name: headline(records)[name] for name in SCORES}


def rectangles(*columns: tuple[int, int]) -> Instances:
    """Masks of height 10 that begin at row 10 and reach over some columns of a 40 x 100 image."""
    patches = [Patch(x0, 10, torch.ones(10, x1 - x0)) for x0, x1 in columns]
    boxes = torch.tensor([[x0, 10.0, x1, 20.0] for x0, x1 in columns])
    count = len(columns)
    return Instances((40, 100), boxes, torch.linspace(0.9, 0.4, count), torch.ones(count, dtype=torch.int64), patches)


def test_a_case_by_hand() -> None:
    # IoU 1.0, 0.8 and 0.6; the third prediction's score is below that of Instance Accuracy.
    truth = rectangles((0, 10), (20, 30), (40, 50))
    drawn = [Patch(patch.x0, patch.y0, patch.values.bool()) for patch in truth.patches or []]
    found = rectangles((0, 10), (20, 28), (40, 46))
    image = torch.zeros(40, 100, dtype=torch.uint8)
    sample = Sample(image, "a.png", 1, replace(truth, scores=torch.ones(3), patches=drawn))
    figures = Scorer(ScoredImages([sample], lambda _: found), chunks=1).initial()
    assert figures["AP50"] == pytest.approx(100)
    # Recall reaches 2/3 at precision 1: 67 of COCO's 101 recall levels.
    assert figures["AP75"] == pytest.approx(100 * 67 / 101)
    assert figures["IA"] == pytest.approx(100 * 2 / 3)
    # Three instances are found at IoU 0.5 to 0.6, two up to 0.8, one up to 0.95 (34 recall levels).
    assert figures["MaskAP"] == pytest.approx(100 * (3 * 101 + 4 * 67 + 3 * 34) / 1010)
    lenient = Scorer(ScoredImages([sample], lambda _: found), 1, ia_score=0.3, ia_iou=0.7)
    assert lenient.initial()["IA"] == pytest.approx(100 * 2 / 3)
    assert Scorer(lenient.images, 1, ia_score=0.3, ia_iou=0.6).initial()["IA"] == pytest.approx(100)


def test_without_annotations_there_are_no_figures() -> None:
    assert all(math.isnan(value) for value in score_masks([]).values())


def test_the_threshold_of_masks_is_obeyed() -> None:
    sample, predicted = scene(1)
    areas = []
    for threshold in (0.3, 0.5, 0.9):
        item = ScoredImages([sample], lambda _: predicted, threshold=threshold)[0].record
        areas.append(item.predictions[0].counts)
        expected = record(predicted, sample.instances, 1, sample.name, threshold)  # type: ignore[arg-type]
        assert item == expected
    assert len(set(areas)) == 3


def test_parts_are_as_many_as_asked_for_or_as_there_are_images() -> None:
    assert scorer(count=1, chunks=4).ends == [1]
    assert scorer(count=10, chunks=4).ends == [3, 5, 8, 10]
    assert scorer(count=5, chunks=1).ends == [5]


def test_images_are_kept_as_far_as_there_is_memory() -> None:
    scenes = [scene(number) for number in range(1, 4)]
    known = {sample.name: predicted for sample, predicted in scenes}
    asked: list[str] = []

    def predict(sample: Sample) -> Instances:
        asked.append(sample.name)
        return known[sample.name]

    samples = [sample for sample, _ in scenes]
    images = ScoredImages(samples, predict)
    size = images[0].bytes()
    assert size == 40 * 40 + 4 * 16 * 28  # uint8 pixels and float32 probabilities
    for _ in range(2):
        for position in range(3):
            assert images[position].record.name == samples[images.order[position]].name
    assert len(asked) == 3
    asked.clear()
    images = ScoredImages(samples, predict, memory_mb=0)
    for _ in range(2):
        images[0]
    assert len(asked) == 2


def test_the_order_is_seeded_and_complete() -> None:
    orders = [scorer(count=8, seed=seed).images.order for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(8))


@pytest.mark.parametrize("boxes_only", [True, False])
def test_an_image_without_masks_is_named(boxes_only: bool) -> None:
    sample, predicted = scene(1)
    assert sample.instances is not None
    bare = replace(sample, instances=replace(sample.instances, patches=None) if boxes_only else None)
    with pytest.raises(UserError, match=r"1.png has no masks to score"):
        ScoredImages([bare], lambda _: predicted)[0]
