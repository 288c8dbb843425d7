"""Check whether a model's anchors fit the chromosomes of a data set, and advise anchors that do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FLOOR = 0.5
"""A chromosome whose best IoU with an anchor is lower gets poor proposals."""

SMALLEST = 8.0
"""Minimum width at the model's scale, in pixels: two cells of a feature map of stride 4."""


@dataclass(frozen=True)
class AnchorFit:
    """How well anchors fit.

    Attributes:
        sizes: The model's anchor sizes, one list per level.
        ratios: Its aspect ratios, height over width.
        median_iou: Median of the boxes' best IoU with an anchor of the same centre.
        below: Share of the boxes whose best IoU is below `FLOOR`.
        advised_sizes: Sizes that fit better, for as many levels; None if the model's sizes fit.
        advised_ratios: Aspect ratios to go with them.
        advised_below: Share of the boxes below `FLOOR` with the advised anchors.
    """

    sizes: list[list[float]]
    ratios: list[float]
    median_iou: float
    below: float
    advised_sizes: list[list[float]] | None = None
    advised_ratios: list[float] | None = None
    advised_below: float | None = None


def best_iou(
    sides: npt.NDArray[np.float64], sizes: Sequence[float], ratios: Sequence[float]
) -> npt.NDArray[np.float64]:
    """Best IoU of each box with an anchor of the same centre.

    Args:
        sides: ``(N, 2)`` widths and heights.
        sizes: Square roots of the anchors' areas.
        ratios: Heights over widths.

    Returns:
        ``(N,)`` in [0, 1].
    """
    size, ratio = np.meshgrid(np.asarray(sizes, dtype=float), np.asarray(ratios, dtype=float))
    across, down = (size / np.sqrt(ratio)).ravel(), (size * np.sqrt(ratio)).ravel()
    shared = np.minimum(sides[:, :1], across) * np.minimum(sides[:, 1:], down)
    iou: npt.NDArray[np.float64] = (shared / (sides.prod(axis=1)[:, None] + across * down - shared)).max(axis=1)
    return iou


def fit_anchors(
    sides: npt.NDArray[np.float64], sizes: Sequence[Sequence[float]], ratios: Sequence[float], tolerated: float
) -> AnchorFit:
    """Compare anchors with boxes, and advise others if they do not fit.

    The advised sizes are quantiles of the boxes' sizes; the advised ratios are 1 and the upper quartile of the boxes'
    elongation, upright and lying.

    Args:
        sides: ``(N, 2)`` widths and heights at the model's scale, N > 0.
        sizes: Per level, square roots of the anchors' areas.
        ratios: Heights over widths.
        tolerated: Share of the boxes that may fit worse than `FLOOR` before other anchors are advised.
    """
    levels = [[float(size) for size in level] for level in sizes]
    shape = [float(ratio) for ratio in ratios]
    iou = best_iou(sides, [size for level in levels for size in level], shape)
    fit = AnchorFit(levels, shape, float(np.median(iou)), float((iou < FLOOR).mean()))
    if fit.below <= tolerated:
        return fit
    scale = np.sqrt(sides.prod(axis=1))
    middles = (np.arange(len(levels)) + 0.5) / len(levels)
    advised = [[float(round(value))] for value in np.quantile(scale, middles)]
    tall = float(np.exp(np.quantile(np.abs(np.log(sides[:, 1] / sides[:, 0])), 0.75)))
    advised_ratios = [round(1 / tall, 2), 1.0, round(tall, 2)]
    better = best_iou(sides, [level[0] for level in advised], advised_ratios)
    below = float((better < FLOOR).mean())
    if below >= fit.below:
        return fit
    return AnchorFit(levels, shape, fit.median_iou, fit.below, advised, advised_ratios, below)
