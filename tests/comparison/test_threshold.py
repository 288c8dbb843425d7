"""The own threshold against every threshold tried by brute force."""

from __future__ import annotations

import pytest

from kemr_lightning.comparison.threshold import best_threshold, precision_at
from kemr_lightning.metrics.segmentation import instance_accuracy
from tests.comparison.helpers import box_mask, noisy_records, nothing, one_image


def test_equals_the_best_of_all_thresholds() -> None:
    for seed in range(4):
        records = noisy_records(seed, quality=0.8, truth_seed=seed)
        annotated = sum(len(item.truth) for item in records)
        best: list[tuple[float, float]] = []
        for hundredths in range(1, 100):
            score = hundredths / 100
            found = instance_accuracy(records, score) * annotated / 100
            predicted = sum(p.score >= score for item in records for p in item.predictions)
            best.append((2 * found / (annotated + predicted), score))
        top = max(value for value, _ in best)
        expected = min((score for value, score in best if value > top - 1e-9), key=lambda score: abs(score - 0.5))
        chosen = best_threshold(records)
        assert chosen is not None
        assert chosen.score == pytest.approx(expected)
        assert chosen.f1 == pytest.approx(100 * top)
        assert chosen.images == len(records)


def test_by_hand() -> None:
    """Two annotations; right at 0.8 and 0.3, false at 0.4 and 0.2: F1 is 2/3, 1/2, 4/5, 4/6 from each score on."""
    one, two, away, far = (
        box_mask(0, 0, 10, 5),
        box_mask(20, 0, 30, 5),
        box_mask(0, 30, 9, 40),
        box_mask(40, 30, 50, 40),
    )
    item = one_image([one, two], [one, two, away, far], [0.8, 0.3, 0.4, 0.2])
    chosen = best_threshold([item])
    assert chosen is not None
    assert chosen.score == pytest.approx(0.3)
    assert chosen.f1 == pytest.approx(80.0)
    assert precision_at([item], 0.3) == pytest.approx(200 / 3)
    assert precision_at([item], 0.8) == 100.0


def test_nothing_annotated_chooses_nothing() -> None:
    assert best_threshold([nothing()]) is None
