"""Figures against pycocotools, intervals against a bootstrap written out, thresholds against trying all of them."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kemr_lightning.comparison.scores import OWN, Score, Threshold, best_threshold, precision_at, score_systems
from kemr_lightning.comparison.settings import CompareSettings
from kemr_lightning.core.run_directory import GROUND_TRUTH, PREDICTIONS
from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.metrics.segmentation import instance_accuracy
from kemr_lightning.output.result_files import ResultFilesWriter
from tests.comparison.helpers import box_mask, noisy_records, nothing, one_image, system

SETTINGS = CompareSettings(resamples=60, seed=4)
GROUPS = ["a", "a", "b", "b", "c", "c"]


def distinct(records: list[ImageRecord], by: float) -> list[ImageRecord]:
    """The same predictions with scores that never tie, so that copies of an image do not change the order."""
    return [
        replace(
            item,
            predictions=[
                replace(p, score=p.score * by + 1e-3 * number + 1e-5 * item.image_id)
                for number, p in enumerate(item.predictions)
            ],
        )
        for item in records
    ]


FIRST, SECOND = distinct(noisy_records(0, quality=0.7), 0.9), distinct(noisy_records(1), 0.8)


def scored(level: float = 0.95) -> list[Score]:
    rows = [system("A", FIRST), system("B", SECOND, "cascade")]
    thresholds = {"A": Threshold(0.3, 90.0, 3), "B": None}
    settings = CompareSettings(resamples=SETTINGS.resamples, seed=SETTINGS.seed, level=level)
    return score_systems(rows, rows, GROUPS, thresholds, settings)


def pycocotools_map(records: list[ImageRecord], kind: str, folder: Path) -> float:
    ResultFilesWriter(folder).write(records, None, {})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / GROUND_TRUTH))
        evaluation = COCOeval(truth, truth.loadRes(str(folder / PREDICTIONS)), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0] * 100)


def drawn(weights: np.ndarray, records: list[ImageRecord]) -> list[ImageRecord]:
    copies = [item for item, weight in zip(records, weights, strict=True) for _ in range(weight)]
    return [ImageRecord(i, c.size, c.name, c.truth, c.predictions, c.masks) for i, c in enumerate(copies, 1)]


def test_figures_are_those_of_pycocotools(tmp_path: Path) -> None:
    for score, records in zip(scored(), (FIRST, SECOND), strict=True):
        assert score.figures["BoxAP"] == pytest.approx(pycocotools_map(records, "bbox", tmp_path), abs=1e-9)
        assert score.figures["MaskAP"] == pytest.approx(pycocotools_map(records, "segm", tmp_path), abs=1e-9)


def test_own_threshold_only_where_there_is_one() -> None:
    first, second = scored()
    assert first.figures[OWN] >= first.figures["IA"]
    assert 0 < first.precision <= 100
    assert OWN not in second.figures
    assert OWN not in second.differences["A"]
    assert np.isnan(second.precision)


@pytest.fixture(scope="module")
def resampled(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Differences in MaskAP: slides are drawn, their images copied into a data set, and pycocotools asked."""
    folder = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(SETTINGS.seed)
    found = []
    for _ in range(SETTINGS.resamples):
        slides = np.bincount(rng.integers(0, 3, 3), minlength=3)
        weights = slides[[0, 0, 1, 1, 2, 2]]
        sides = [pycocotools_map(drawn(weights, records), "segm", folder) for records in (FIRST, SECOND)]
        found.append(sides[1] - sides[0])
    return found


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_intervals_equal_a_bootstrap_written_out(resampled: list[float], level: float) -> None:
    first, second = scored(level)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    difference = second.differences["A"]["MaskAP"]
    assert difference.low == pytest.approx(low, abs=1e-9)
    assert difference.high == pytest.approx(high, abs=1e-9)
    assert difference.difference == pytest.approx(second.figures["MaskAP"] - first.figures["MaskAP"])


def test_a_baseline_is_not_compared_with_itself() -> None:
    first, second = scored()
    assert set(first.differences) == {"B"}
    assert set(second.differences) == {"A"}
    for name in ("BoxAP", "MaskAP", "AP50", "AP75", "IA"):
        one, other = first.differences["B"][name], second.differences["A"][name]
        assert one.difference == pytest.approx(-other.difference)
        assert one.low == pytest.approx(-other.high)


def test_the_own_threshold_is_the_best_of_all() -> None:
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


def test_an_own_threshold_by_hand() -> None:
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


def test_without_annotations_there_is_no_own_threshold() -> None:
    assert best_threshold([nothing()]) is None
