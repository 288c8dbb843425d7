"""AP from stored matches against the metric, and the interval against cases where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from kemr_lightning.core.instances import Instances
from kemr_lightning.metrics.bootstrap import paired_bootstrap, statistic
from kemr_lightning.metrics.records import ImageRecord, record
from kemr_lightning.metrics.segmentation import headline
from tests.metrics.helpers import scene, with_crowds


def data_set(seed: int, classes: int = 1, images: int = 8) -> list[ImageRecord]:
    rng = np.random.default_rng(seed)
    return [record(*scene(rng, classes=classes), image_id=10 - i) for i in range(images)]


def repeated(records: list[ImageRecord], weights: np.ndarray) -> list[ImageRecord]:
    """The resample written out: an image drawn k times is k images."""
    copies = [item for item, weight in zip(records, weights, strict=True) for _ in range(weight)]
    return [ImageRecord(i, c.size, c.name, c.truth, c.predictions, c.masks, c.crowds) for i, c in enumerate(copies, 1)]


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("figure", ["BoxAP", "MaskAP", "AP50", "AP75", "IA"])
def test_weights_of_one_give_the_metric(figure: str, classes: int) -> None:
    for seed in range(3):
        records = data_set(seed, classes)
        value = statistic(records, figure)(np.ones(len(records), dtype=np.int64))
        assert value == pytest.approx(headline(records)[figure], abs=1e-9)


@pytest.mark.parametrize("figure", ["MaskAP", "AP75", "IA"])
def test_weights_equal_images_written_out(figure: str) -> None:
    rng = np.random.default_rng(0)
    records = []
    for position in range(6):
        predictions, truth = scene(rng, classes=2)
        # No ties: their order is the one thing in which copies of an image may differ.
        predictions.scores = predictions.scores * 0.9 + 0.1 * np.float32(rng.random()) * predictions.scores
        jitter = np.linspace(0.9, 1.0, len(predictions), dtype=np.float32)
        predictions = Instances(
            predictions.image_size,
            predictions.boxes,
            predictions.scores * jitter,
            predictions.labels,
            predictions.patches,
        )
        records.append(record(predictions, with_crowds(truth, scene(rng, classes=2)[1]), position + 1))
    compute = statistic(records, figure)
    for _ in range(5):
        weights = rng.multinomial(6, np.full(6, 1 / 6))
        expected = headline(repeated(records, weights))[figure]
        assert compute(weights) == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_the_maximum_of_detections_counts() -> None:
    records = data_set(1)
    once = np.ones(len(records), dtype=np.int64)
    few = statistic(records, "MaskAP", max_detections=1)(once)
    assert few == pytest.approx(headline(records, max_detections=1)["MaskAP"], abs=1e-9)
    assert few != pytest.approx(headline(records)["MaskAP"], abs=1)


def test_boxes_only_and_unknown_figures() -> None:
    records = [ImageRecord(r.image_id, r.size, "", r.truth, r.predictions, masks=False) for r in data_set(1)]
    once = np.ones(len(records), dtype=np.int64)
    assert statistic(records, "AP75")(once) == pytest.approx(headline(records)["AP75"], abs=1e-9)
    with pytest.raises(ValueError, match="MaskAP"):
        statistic(records, "MaskAP")
    with pytest.raises(ValueError, match="AP51"):
        statistic(records, "AP51")


def test_interval_of_a_mean_difference_is_the_known_one() -> None:
    rng = np.random.default_rng(3)
    first, gain = rng.normal(50, 10, 400), rng.normal(1.0, 2.0, 400)

    def mean(values: np.ndarray) -> object:
        return lambda weights: float(weights @ values / weights.sum())

    found = paired_bootstrap(mean(first), mean(first + gain), 400, resamples=2000)  # type: ignore[arg-type]
    error = gain.std() / np.sqrt(400)
    assert found.difference == pytest.approx(gain.mean())
    assert found.low == pytest.approx(gain.mean() - 1.96 * error, abs=0.25 * error)
    assert found.high == pytest.approx(gain.mean() + 1.96 * error, abs=0.25 * error)
    assert found.above_zero == 1.0
    again = paired_bootstrap(mean(first), mean(first + gain), 400, resamples=2000)  # type: ignore[arg-type]
    assert found == again


def test_groups_are_drawn_together() -> None:
    seen = []

    def watch(weights: np.ndarray) -> float:
        seen.append(weights.copy())
        return 0.0

    found = paired_bootstrap(watch, watch, 5, resamples=20, groups=["a", "a", "b", "c", "c"])
    assert all(w[0] == w[1] and w[3] == w[4] for w in seen)
    assert any(w[0] == 2 for w in seen)
    assert (found.low, found.high, found.above_zero) == (0.0, 0.0, 0.5)
    with pytest.raises(ValueError, match="one group per image"):
        paired_bootstrap(watch, watch, 5, groups=["a"])


def test_nothing_annotated_gives_nan() -> None:
    records = [record(Instances.empty((8, 8)), Instances.empty((8, 8)), 1)]
    compute = statistic(records, "MaskAP")
    found = paired_bootstrap(compute, compute, 1, resamples=5)
    assert np.isnan(found.low)
    assert found.resamples == 0
