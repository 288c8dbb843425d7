"""AP by hand and against pycocotools, and what happens where there is nothing to evaluate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kemr_lightning.metrics.average_precision import IOU_THRESHOLDS, average_precision, coco_dataset
from kemr_lightning.metrics.records import Entry, ImageRecord, record
from tests.metrics.helpers import Images, boxes_only, of_squares, reference, scene, with_crowds


def recorded(images: Images) -> list[ImageRecord]:
    return [record(predictions, truth, number) for number, (predictions, truth) in enumerate(images, 1)]


def test_by_hand() -> None:
    truth = of_squares((0, 0, 1, 1), (20, 0, 1, 1))
    predictions = of_squares(
        (2, 0, 0.9, 1),  # IoU 8 / 12: right up to a threshold of 0.65
        (40, 40, 0.8, 1),  # false
        (20, 0, 0.7, 1),  # exactly the second
    )
    found = average_precision(recorded([(predictions, truth)]), masks=True)
    # Both found: precision 1 up to recall 1/2 (51 of 101 points), then 2/3.
    low = 100 * (51 + 50 * 2 / 3) / 101
    # Only the second found, by the third prediction: precision 1/3 up to recall 1/2.
    high = 100 * (51 / 3) / 101
    assert found.labels == [1]
    assert found.at(0.65) == pytest.approx(low)
    assert found.at(0.7) == pytest.approx(high)
    assert found.at() == pytest.approx((4 * low + 6 * high) / 10)
    assert found.recall[:, 0].tolist() == [1.0] * 4 + [0.5] * 6
    assert found.curve(0.95) == pytest.approx(np.where(np.arange(101) <= 50, 1 / 3, 0))


def test_equal_to_pycocotools_at_every_threshold_whatever_the_order_of_the_images() -> None:
    rng = np.random.default_rng(21)
    images = [scene(rng, classes=2) for _ in range(8)]
    records = recorded(images)
    for kind, masks in (("segm", True), ("bbox", False)):
        evaluation = reference(images, kind)
        found = average_precision(records[::-1], masks)
        assert found.labels == evaluation.params.catIds
        assert np.allclose(found.precision, evaluation.eval["precision"][:, :, :, 0, -1], atol=1e-12)
        assert np.allclose(found.recall, evaluation.eval["recall"][:, :, 0, -1], atol=1e-12)


def test_more_than_100_predictions_an_image_are_cut_as_coco_cuts_them() -> None:
    rng = np.random.default_rng(3)
    predictions, truth = scene(rng, count=60)
    images = [(predictions[torch.arange(len(predictions)).repeat(3)], truth)]
    assert len(images[0][0]) > 100
    found = average_precision(recorded(images), masks=True)
    assert found.at() == pytest.approx(100 * reference(images, "segm").stats[0], abs=1e-9)


def test_nothing_annotated_is_nan_and_nothing_predicted_is_zero() -> None:
    nothing, one = of_squares(), of_squares((0, 0, 1, 3))
    for images in ([], [(nothing, nothing)], [(one, nothing)]):
        found = average_precision(recorded(images), masks=True)
        assert np.isnan(found.at())
        assert np.isnan(found.curve(0.5)).all()
    missed = average_precision(recorded([(nothing, one)]), masks=True)
    assert (missed.labels, missed.at(), missed.at(label=3)) == ([3], 0.0, 0.0)
    # A class that is only predicted has no figure, and no part in the mean.
    both = average_precision(recorded([(of_squares((0, 0, 0.9, 3), (20, 0, 0.9, 4)), one)]), masks=True)
    assert (both.labels, both.at(), both.at(label=3)) == ([3, 4], 100.0, 100.0)
    assert np.isnan(both.at(label=4))


def test_annotations_of_another_area_count_neither_for_nor_against() -> None:
    large, small = Entry(1, (0, 0, 10, 10), 1.0, None, 100.0), Entry(1, (20, 0, 5, 5), 1.0, None, 25.0)
    found = Entry(1, (0, 0, 10, 10), 0.9, None, 100.0)
    records = [ImageRecord(1, (50, 50), "", [large, small], [found], masks=False)]
    assert average_precision(records, masks=False).at() == pytest.approx(100 * 51 / 101)
    assert average_precision(records, masks=False, area_range=(50, 1e10)).at() == 100
    assert average_precision(records, masks=False, area_range=(0, 50)).at() == 0
    assert np.isnan(average_precision(records, masks=False, area_range=(1e4, 1e5)).at())


def test_a_threshold_that_is_not_evaluated_is_refused() -> None:
    found = average_precision(recorded([(of_squares(), of_squares((0, 0, 1, 1)))]), masks=True)
    with pytest.raises(ValueError, match=r"0.52 is not one of the thresholds \[0.5, 0.55"):
        found.at(0.52)
    assert IOU_THRESHOLDS.round(2).tolist() == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def test_one_side_of_the_records_as_a_data_set() -> None:
    images = [(of_squares((0, 0, 0.5, 2)), of_squares((0, 0, 1, 1), (20, 0, 1, 2)))] * 2
    truth = coco_dataset(recorded(images), [1, 2], "truth", masks=False)
    assert [row["id"] for row in truth["annotations"]] == [1, 2, 3, 4]
    assert [row["image_id"] for row in truth["annotations"]] == [1, 1, 2, 2]
    assert truth["annotations"][1]["bbox"] == [20, 0, 10, 10]
    assert "segmentation" not in truth["annotations"][0]
    (first, _) = coco_dataset(recorded(images), [1, 2], "predictions", masks=True)["annotations"]
    assert (first["category_id"], first["score"], first["segmentation"]["size"]) == (2, 0.5, [50, 50])
    assert [row["id"] for row in truth["categories"]] == [1, 2]


def test_predictions_on_crowds_count_as_in_pycocotools_at_every_threshold() -> None:
    rng = np.random.default_rng(5)
    images = []
    for _ in range(8):
        predictions, truth = scene(rng, classes=2)
        images.append((predictions, with_crowds(truth, scene(rng, classes=2)[1])))
    for kind, masks in (("segm", True), ("bbox", False)):
        evaluation = reference(images, kind)
        found = average_precision(recorded(images), masks)
        assert found.at() == pytest.approx(100 * evaluation.stats[0], abs=1e-9)
        assert np.allclose(found.precision, evaluation.eval["precision"][:, :, :, 0, -1], atol=1e-12)
        without = [(predictions, with_crowds(truth, of_squares())) for predictions, truth in images]
        assert found.at() > average_precision(recorded(without), masks).at()


def test_a_crowd_is_about_its_own_class_and_larger_than_what_lies_on_it() -> None:
    truth = with_crowds(of_squares((0, 0, 1, 1)), of_squares((20, 20, 1, 1)))
    on, beside = (22, 22, 0.95, 1), (35, 35, 0.95, 1)
    right = (0, 0, 0.9, 1)
    assert average_precision(recorded([(of_squares(on, right), truth)]), True).at(0.5) == 100
    assert average_precision(recorded([(of_squares(beside, right), truth)]), True).at(0.5) == 50
    other = with_crowds(of_squares((0, 0, 1, 1)), of_squares((20, 20, 1, 2)))
    assert average_precision(recorded([(of_squares(on, right), other)]), True).at(0.5) == 50
    boxes = recorded([(boxes_only(of_squares(on, right)), with_crowds(boxes_only(truth), truth.ignored))])
    assert average_precision(boxes, False).at(0.5) == 100
    # Only a crowd: there is nothing to find.
    assert np.isnan(
        average_precision(recorded([(of_squares(on), with_crowds(of_squares(), truth.ignored))]), True).at()
    )


@pytest.mark.parametrize("most", [3, 100, 150])
def test_any_maximum_of_detections_gives_the_figure_of_pycocotools_with_it(most: int) -> None:
    rng = np.random.default_rng(3)
    predictions, truth = scene(rng, count=60)
    images = [(predictions[torch.arange(len(predictions)).repeat(3)], truth), scene(rng)]
    assert len(images[0][0]) > 150
    evaluation = reference(images, "segm", most=most)
    found = average_precision(recorded(images), masks=True, max_detections=most)
    # Sorted, the reference's maxima end with the one that counts, unless it is the 3 among 1, 3 and 10.
    which = sorted([1, 10, most]).index(most)
    if most > 10:
        assert np.allclose(found.precision, evaluation.eval["precision"][:, :, :, 0, which], atol=1e-12)
    assert np.allclose(found.recall, evaluation.eval["recall"][:, :, 0, which], atol=1e-12)


def test_120_perfect_predictions_score_100_where_they_all_count() -> None:
    places = [(x, y) for x in range(0, 41, 4) for y in range(0, 41, 4)][:120]
    truth = of_squares(*((x, y, 1.0, 1) for x, y in places))
    predictions = of_squares(*((x, y, 0.9, 1) for x, y in places))
    items = recorded([(predictions, truth)])
    assert average_precision(items, True).at() == pytest.approx(100 * 84 / 101)
    assert average_precision(items, True, max_detections=120).at() == 100
