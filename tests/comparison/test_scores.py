"""Figures against pycocotools, intervals against a bootstrap written out image by image."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from kemr_lightning.comparison.scores import OWN, Score, Settings, score_systems
from kemr_lightning.comparison.threshold import Threshold
from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.output.coco_results import GROUND_TRUTH, PREDICTIONS, CocoResultsWriter
from tests.comparison.helpers import noisy_records, system

SETTINGS = Settings(resamples=60, seed=4)
GROUPS = ["a", "a", "b", "b", "c", "c"]


def distinct(records: list[ImageRecord], by: float) -> list[ImageRecord]:
    """The same predictions with scores that never tie, so that copies of an image do not change the order."""
    from dataclasses import replace

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
    settings = Settings(resamples=SETTINGS.resamples, seed=SETTINGS.seed, level=level)
    return score_systems(rows, rows, GROUPS, thresholds, settings)


def pycocotools_map(records: list[ImageRecord], kind: str, folder: Path) -> float:
    CocoResultsWriter(folder).write(records, None, {})
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


@pytest.mark.parametrize("level", [0.95, 0.5])
def test_intervals_equal_a_bootstrap_written_out(tmp_path: Path, level: float) -> None:
    """Slides are drawn, their images copied into a data set of their own, and pycocotools asked for its MaskAP."""
    _, second = scored(level)
    rng = np.random.default_rng(SETTINGS.seed)
    found = []
    for _ in range(SETTINGS.resamples):
        slides = np.bincount(rng.integers(0, 3, 3), minlength=3)
        weights = slides[[0, 0, 1, 1, 2, 2]]
        sides = [pycocotools_map(drawn(weights, records), "segm", tmp_path) for records in (FIRST, SECOND)]
        found.append(sides[1] - sides[0])
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    difference = second.differences["A"]["MaskAP"]
    assert difference.low == pytest.approx(low, abs=1e-9)
    assert difference.high == pytest.approx(high, abs=1e-9)
    assert difference.difference == pytest.approx(second.figures["MaskAP"] - scored()[0].figures["MaskAP"])


def test_a_baseline_is_not_compared_with_itself() -> None:
    first, second = scored()
    assert set(first.differences) == {"B"}
    assert set(second.differences) == {"A"}
    for name in ("BoxAP", "MaskAP", "AP50", "AP75", "IA"):
        one, other = first.differences["B"][name], second.differences["A"][name]
        assert one.difference == pytest.approx(-other.difference)
        assert one.low == pytest.approx(-other.high)
