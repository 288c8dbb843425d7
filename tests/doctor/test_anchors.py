"""How well anchors fit, and anchors that fit better."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kemr_lightning.doctor.anchors import best_iou, fit_anchors


def test_best_iou_with_anchors_by_hand() -> None:
    # 20 x 20 in 40 x 40, and a 10 x 40 box with an anchor of area 400 and ratio 4.
    assert best_iou(np.array([[20.0, 20.0]]), [40], [1.0]).tolist() == [0.25]
    assert best_iou(np.array([[10.0, 40.0]]), [20], [1.0, 4.0]).tolist() == [1.0]


def test_best_iou_is_that_of_a_loop_over_all_anchors() -> None:
    rng = np.random.default_rng(1)
    sides, sizes, ratios = rng.uniform(5, 90, (40, 2)), [12.0, 40.0, 75.0], [0.4, 1.0, 2.5]

    def iou(box: npt.NDArray[np.float64], size: float, ratio: float) -> float:
        width, height = size / ratio**0.5, size * ratio**0.5
        shared = min(box[0], width) * min(box[1], height)
        return float(shared / (box[0] * box[1] + width * height - shared))

    expected = [max(iou(box, size, ratio) for size in sizes for ratio in ratios) for box in sides]
    np.testing.assert_allclose(best_iou(sides, sizes, ratios), expected)


def test_anchors_that_fit_get_no_advice() -> None:
    fit = fit_anchors(np.array([[20.0, 20.0], [10.0, 40.0]]), [[20]], [1.0, 4.0], 0.0)
    assert (fit.median_iou, fit.below, fit.advised_sizes) == (1.0, 0.0, None)
    # A share of misfits may be tolerated.
    assert fit_anchors(np.array([[20.0, 20.0], [90.0, 90.0]]), [[20]], [1.0], 0.5).advised_sizes is None


def test_anchors_that_do_not_fit_get_advice_that_does() -> None:
    sides = np.random.default_rng(0).uniform(80, 200, (300, 2))
    fit = fit_anchors(sides, [[18], [32], [64]], [0.4, 1.0, 2.5], 0.05)
    assert fit.below > 0.4
    assert fit.advised_sizes is not None
    assert fit.advised_ratios is not None
    assert len(fit.advised_sizes) == 3
    again = fit_anchors(sides, fit.advised_sizes, fit.advised_ratios, 0.05)
    assert again.below == fit.advised_below
    assert again.below < 0.05
    assert again.advised_sizes is None


def test_advice_that_is_no_better_is_not_given() -> None:
    # Sizes so far apart that no anchor of one level fits all.
    sides = np.array([[10.0, 10.0], [1000.0, 1000.0]])
    fit = fit_anchors(sides, [[10]], [1.0], 0.0)
    assert fit.below == 0.5
    assert fit.advised_sizes is None
