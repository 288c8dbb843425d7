"""Curves of a run: precision over recall, AP over the IoU threshold, losses and validation figures over steps."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from kemr_lightning.metrics.average_precision import IOU_THRESHOLDS, RECALL_POINTS
from kemr_lightning.output.drawing import COLOURS, NAMES, save, tidy
from kemr_lightning.output.loss_kinds import kind_of_loss


def _axes(size: tuple[float, float] = (6.4, 4.6)) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    tidy(axes)
    return figure, axes


def precision_recall(
    extended: Mapping[str, Any],
    path: Path,
    ious: Sequence[float] = (0.5, 0.75, 0.85),
    names: Mapping[str, str] = NAMES,
    colours: Mapping[str, str] = COLOURS,
) -> None:
    """Draw precision over recall of one or more sets of predictions, at some IoU thresholds.

    Args:
        extended: Key of each set -> its `extended_figures`; for a run the keys are ``initial`` and, with a refiner,
            ``refined``.
        path: The PNG to write.
        ious: At most three thresholds.
        names: Key -> name in the legend, in the order of the legend; other keys are not drawn.
        colours: Key -> colour.
    """
    figure, axes = _axes()
    dashes: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
    styles = dict(zip(ious, dashes, strict=False))
    kind, present = _kind(extended), [key for key in names if key in extended]
    for key in present:
        for iou, style in styles.items():
            curve = np.array(extended[key][kind]["curves"][f"{iou:.2f}"]) * 100
            axes.plot(RECALL_POINTS * 100, curve, style, color=colours[key], linewidth=1.8)
    handles = [Line2D([], [], color=colours[key], linewidth=2, label=names[key]) for key in present]
    handles += [Line2D([], [], color="#555555", linestyle=s, label=f"IoU {iou:.2f}") for iou, s in styles.items()]
    axes.legend(handles=handles, frameon=False, loc="lower left")
    axes.set(xlabel="recall (%)", ylabel="precision (%)", xlim=(0, 100), ylim=(0, 101), title=f"{kind} precision")
    save(figure, path, 150)


def ap_over_iou(
    extended: Mapping[str, Any],
    path: Path,
    names: Mapping[str, str] = NAMES,
    colours: Mapping[str, str] = COLOURS,
) -> None:
    """Draw AP over the IoU threshold.

    Args:
        extended: As in `precision_recall`.
        path: The PNG to write.
        names: As in `precision_recall`.
        colours: As in `precision_recall`.
    """
    figure, axes = _axes()
    kind = _kind(extended)
    for key in (key for key in names if key in extended):
        values = [extended[key][kind][f"AP{round(iou * 100)}"] for iou in IOU_THRESHOLDS]
        label = f"{names[key]}, mean {extended[key][kind]['AP']:.2f}"
        axes.plot(IOU_THRESHOLDS, values, "o-", color=colours[key], linewidth=1.8, markersize=4, label=label)
    axes.legend(frameon=False, loc="lower left")
    axes.set(xlabel="IoU threshold", ylabel="AP (%)", ylim=(0, 101), title=f"{kind} AP")
    axes.set_xticks(IOU_THRESHOLDS)
    save(figure, path, 150)


def _kind(extended: Mapping[str, Any]) -> str:
    """Whether the curves are those of masks or, where there are no masks, of boxes."""
    return "mask" if all("mask" in figures for figures in extended.values()) else "box"


def training_curves(metrics_csv: Path, path: Path) -> bool:
    """Draw a training's losses and its validation figures over steps.

    Args:
        metrics_csv: The table that `ContinuedCSVLogger` writes.
        path: The PNG to write.

    Returns:
        Whether there was anything to draw.
    """
    with metrics_csv.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = sorted({name for row in rows for name in row if name})
    losses = _losses(rows, names)
    if not losses:
        return False
    figure = Figure(figsize=(11, 4.4), facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2)
    palette = ["#222222", "#0072B2", "#E69F00", "#CC79A7", "#009E73", "#56B4E9", "#D55E00", "#999999"]
    for (name, (steps, values)), colour in zip(losses.items(), palette * len(losses), strict=False):
        left.plot(steps, _smooth(values), color=colour, linewidth=2.0 if name == "total" else 1.3, label=name)
    left.set(xlabel="step", ylabel="loss (running mean)", yscale="log", title="training")
    left.legend(frameon=False, fontsize=8)
    for group in ("initial", "refined"):
        for figure_name, style in (("MaskAP", "o-"), ("AP75", "o:"), ("AP50", "o--")):
            steps, values = _series(rows, f"val/{group}/{figure_name}")
            if len(steps):
                label = f"{figure_name} {group}"
                right.plot(steps, values, style, color=COLOURS[group], linewidth=1.5, markersize=3, label=label)
    right.set(xlabel="step", ylabel="%", title="validation")
    if right.lines:
        right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        tidy(axes)
    save(figure, path, 150)
    return True


def _losses(
    rows: Sequence[Mapping[str, str]], names: Sequence[str]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Kind of loss -> steps and values, losses of one kind summed; the total comes first."""
    found: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    for name in names:
        kind = kind_of_loss(name)
        steps, values = _series(rows, name) if kind is not None else (np.zeros(0), np.zeros(0))
        if kind is None or not len(steps):
            continue
        held = found.get(kind)
        found[kind] = (steps, values if held is None or len(held[1]) != len(values) else held[1] + values)
    return dict(sorted(found.items(), key=lambda item: item[0] != "total"))


def _series(rows: Sequence[Mapping[str, str]], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and values of a column. A step that was run twice, before and after a crash, has its later value."""
    points = {int(row["step"]): float(row[name]) for row in rows if row.get(name) and row.get("step")}
    steps = sorted(points)
    return np.array(steps, dtype=np.float64), np.array([points[step] for step in steps])


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running mean over a window of a twentieth of the curve, cut off at the curve's ends."""
    half = len(values) // 40
    sums = np.concatenate([[0.0], np.cumsum(values)])
    position = np.arange(len(values))
    first, last = np.maximum(position - half, 0), np.minimum(position + half + 1, len(values))
    means: NDArray[np.float64] = (sums[last] - sums[first]) / (last - first)
    return means
