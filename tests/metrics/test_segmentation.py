"""The figures against pycocotools, Instance Accuracy by hand, and the metric as a torchmetrics.Metric."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Instances
from kemr_lightning.metrics.segmentation import InstanceSegmentationMetric, extended_figures
from tests.metrics.helpers import Images, boxes_only, of_squares, reference, scene


def fill(
    metric: InstanceSegmentationMetric, images: Images, ids: list[int] | None = None
) -> InstanceSegmentationMetric:
    for image_id, (predictions, target) in enumerate(images, 1):
        metric.update([predictions], [target], [image_id if ids is None else ids[image_id - 1]])
    return metric


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_ap_equals_pycocotools(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    images = [scene(rng, classes=classes) for _ in range(8)]
    figures = fill(InstanceSegmentationMetric(), images).compute()
    masks, boxes = reference(images, "segm").stats, reference(images, "bbox").stats
    expected = {"BoxAP": boxes[0], "MaskAP": masks[0], "AP50": masks[1], "AP75": masks[2]}
    for name, value in expected.items():
        assert figures[name].dtype == torch.float64
        assert float(figures[name]) == pytest.approx(100 * value, abs=1e-9), name


def test_extended_figures_equal_pycocotools() -> None:
    rng = np.random.default_rng(11)
    images = [scene(rng, classes=3) for _ in range(8)]
    found = extended_figures(fill(InstanceSegmentationMetric(), images).records())
    evaluation = reference(images, "segm")
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    for index, iou in enumerate(range(50, 100, 5)):
        values = precision[index][precision[index] > -1]
        assert found["mask"][f"AP{iou}"] == pytest.approx(100 * values.mean(), abs=1e-9)
    for position, label in enumerate(evaluation.params.catIds):
        figures = found["per_class"][str(label)]
        assert figures["MaskAP"] == pytest.approx(100 * precision[:, :, position].mean(), abs=1e-9)
        assert figures["AP75"] == pytest.approx(100 * precision[5, :, position].mean(), abs=1e-9)
    assert np.allclose(found["mask"]["curves"]["0.75"], precision[5].mean(axis=1), atol=1e-12)
    assert found["mask"]["AR100"] == pytest.approx(100 * evaluation.stats[8], abs=1e-9)


def test_figures_of_each_class_by_hand() -> None:
    target = of_squares((0, 0, 1, 1), (20, 0, 1, 1), (0, 20, 1, 2), (20, 20, 1, 3))
    predictions = of_squares(
        (0, 0, 0.9, 1),  # exactly the first
        (0, 20, 0.8, 2),  # exactly the third
        (20, 20, 0.7, 1),  # the fourth under another class
        (35, 35, 0.3, 4),  # a class that is not annotated, below the score
    )
    metric = InstanceSegmentationMetric()
    metric.update([predictions], [target], [1])
    found = extended_figures(metric.records(), label_names=["one", "two", "three"])["per_class"]
    assert list(found) == ["one", "two", "three", "4"]
    assert found["two"] == {
        **{"annotated": 1, "predicted": 1},
        **dict.fromkeys(("BoxAP", "MaskAP", "AP50", "AP75", "IA"), 100),
    }
    # One of two found at precision 1: recalls 0, 0.01 ... 0.5 are 51 of 101 points.
    assert found["one"]["MaskAP"] == pytest.approx(100 * 51 / 101)
    assert (found["one"]["annotated"], found["one"]["predicted"], found["one"]["IA"]) == (2, 2, 50)
    assert (found["three"]["MaskAP"], found["three"]["predicted"], found["three"]["IA"]) == (0, 0, 0)
    assert (found["4"]["annotated"], found["4"]["predicted"]) == (0, 0)
    assert all(np.isnan(found["4"][name]) for name in ("BoxAP", "MaskAP", "AP50", "AP75", "IA"))
    mean = np.mean([found[name]["MaskAP"] for name in ("one", "two", "three")])
    assert float(metric.compute()["MaskAP"]) == pytest.approx(mean)


def test_instance_accuracy_by_hand() -> None:
    target = of_squares((0, 0, 1, 1), (20, 0, 1, 1), (0, 20, 1, 2), (20, 20, 1, 1))
    predictions = of_squares(
        (1, 0, 0.9, 1),  # IoU 9/11 with the first: found
        (0, 0, 0.8, 1),  # a better mask of the first, but it is taken: false
        (20, 0, 0.49, 1),  # right, but below the score: missed
        (0, 20, 0.9, 1),  # right place, wrong class: missed
        (26, 20, 0.9, 1),  # IoU 4/16 with the fourth: missed
    )
    metric = InstanceSegmentationMetric()
    metric.update([predictions], [target], [1])
    assert float(metric.compute()["IA"]) == 25.0
    lower = InstanceSegmentationMetric(ia_score=0.4, ia_iou=0.2)
    lower.update([predictions], [target], [1])
    assert float(lower.compute()["IA"]) == 75.0


def test_instance_accuracy_sums_over_images_and_takes_the_best_free_annotation() -> None:
    metric = InstanceSegmentationMetric()
    # The first prediction prefers the second annotation although the first also reaches 0.5.
    metric.update([of_squares((2, 0, 0.9, 1), (0, 0, 0.6, 1))], [of_squares((0, 0, 1, 1), (3, 0, 1, 1))], [1])
    metric.update([of_squares()], [of_squares((0, 0, 1, 1), (20, 0, 1, 1))], [2])
    assert float(metric.compute()["IA"]) == 50.0


def test_without_annotations_nan_and_without_predictions_zero() -> None:
    nothing = InstanceSegmentationMetric()
    assert all(np.isnan(float(v)) for v in nothing.compute().values())
    nothing.reset()
    nothing.update([of_squares((0, 0, 0.9, 1))], [of_squares()], [1])
    assert all(np.isnan(float(v)) for v in nothing.compute().values())
    missed = InstanceSegmentationMetric()
    missed.update([of_squares()], [of_squares((0, 0, 1, 1))], [1])
    assert all(float(v) == 0 for v in missed.compute().values())
    assert extended_figures(missed.records())["mask"]["AP85"] == 0


def test_box_only_annotations_score_boxes() -> None:
    rng = np.random.default_rng(5)
    images = [(p, boxes_only(t)) for p, t in (scene(rng, classes=2) for _ in range(8))]
    metric = fill(InstanceSegmentationMetric(), images)
    figures = metric.compute()
    expected = reference([(boxes_only(p), t) for p, t in images], "bbox", boxes_only=True).stats
    assert float(figures["BoxAP"]) == pytest.approx(100 * expected[0], abs=1e-9)
    assert float(figures["AP50"]) == pytest.approx(100 * expected[1], abs=1e-9)
    assert float(figures["AP75"]) == pytest.approx(100 * expected[2], abs=1e-9)
    assert np.isnan(float(figures["MaskAP"]))
    assert 0 < float(figures["IA"]) <= 100
    extended = extended_figures(metric.records())
    assert "mask" not in extended
    for row in extended["per_class"].values():
        assert np.isnan(row["MaskAP"])
        assert 0 <= row["AP50"] <= 100


def test_masks_are_needed_where_annotations_have_them() -> None:
    target = of_squares((0, 0, 1, 1))
    with pytest.raises(ValueError, match="boxes only"):
        InstanceSegmentationMetric().update([boxes_only(target)], [target], [1])
    with pytest.raises(ValueError, match="for a size of"):
        InstanceSegmentationMetric().update([Instances.empty((4, 4))], [target], [1])


def test_an_image_seen_twice_counts_once_and_reset_forgets() -> None:
    rng = np.random.default_rng(2)
    images = [scene(rng) for _ in range(4)]
    once = fill(InstanceSegmentationMetric(), images).compute()
    twice = fill(InstanceSegmentationMetric(), [*images, *images], [1, 2, 3, 4, 1, 2, 3, 4])
    assert once == twice.compute()
    twice.reset()
    assert twice.records() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ia_score", -0.1),
        ("ia_score", 1.5),
        ("ia_score", None),
        ("ia_iou", 0),
        ("ia_iou", 2),
        ("threshold", float("nan")),
    ],
)
def test_a_threshold_out_of_range_is_a_wrong_setting(name: str, value: float) -> None:
    with pytest.raises(SettingError, match=r"Choose one, such as 0\.5$") as caught:
        InstanceSegmentationMetric(**{name: value})
    assert caught.value.setting == name


def test_thresholds_may_lie_at_the_ends_of_their_ranges() -> None:
    metric = InstanceSegmentationMetric(ia_score=0, ia_iou=1, threshold=1)
    metric.update([of_squares((0, 0, 0.0, 1), (20, 0, 0.0, 1))], [of_squares((0, 0, 1, 1), (21, 0, 1, 1))], [1])
    assert float(metric.compute()["IA"]) == 50  # IoU 1 and 9 / 11


def test_counts_of_predictions() -> None:
    metric = InstanceSegmentationMetric()
    metric.update([of_squares((0, 0, 0.9, 1), (0, 0, 0.1, 1))], [of_squares((0, 0, 1, 1), (20, 0, 1, 1))], [1])
    metric.update([of_squares((0, 0, 0.9, 1), (9, 0, 0.5, 1))], [of_squares((0, 0, 1, 1))], [2])
    assert extended_figures(metric.records())["count"] == {"mean_absolute_difference": 1.0, "mean_difference": 0.0}


def _worker(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    rng = np.random.default_rng(4)
    images = [scene(rng, classes=2) for _ in range(5)]
    metric = InstanceSegmentationMetric()
    # A distributed sampler pads by repeating: image 1 is on both sides.
    for index in ([0, 2, 4], [1, 3, 0])[rank]:
        metric.update([images[index][0]], [images[index][1]], [index + 1])
    figures = {k: float(v) for k, v in metric.compute().items()}
    assert [r.image_id for r in metric.gathered()] == [1, 2, 3, 4, 5]
    assert len(metric.records()) == 3
    uneven = InstanceSegmentationMetric()
    if rank == 0:
        uneven.update([images[0][0]], [images[0][1]], [1])
    assert [r.image_id for r in uneven.gathered()] == [1]
    torch.save(figures, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_figures_of_one(tmp_path: Path) -> None:
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=2)  # type: ignore[no-untyped-call]
    rng = np.random.default_rng(4)
    expected = fill(InstanceSegmentationMetric(), [scene(rng, classes=2) for _ in range(5)]).compute()
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == {k: float(v) for k, v in expected.items()}
