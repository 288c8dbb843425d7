"""Figures of a study: how it went, and which parameters matter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from kemr_lightning.output.drawing import save

BEST, OTHER, BASE = "#D55E00", "#0072B2", "#777777"
"""Okabe and Ito's vermilion and blue, which people with any kind of colour vision can distinguish, and grey."""

DPI = 130


def draw_history(trials: Sequence[FrozenTrial], objective: str, lines: Mapping[str, float], path: Path) -> None:
    """Draw every trial's figure, the best so far, and the figures to be beaten.

    Args:
        trials: Complete and pruned ones; a pruned one is shown with its last intermediate figure.
        objective: The figure's name.
        lines: Name -> figure, at most three, drawn as horizontal lines.
        path: The PNG to write.
    """
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    complete, pruned = points_of(trials)
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "x", color=BASE, ms=4, label="pruned, at its last part")
    if complete:
        axes.plot(*zip(*complete, strict=True), "o", color=OTHER, ms=4, label="complete")
        best, running = -math.inf, []
        for number, value in complete:
            best = max(best, value)
            running.append((number, best))
        axes.step(*zip(*running, strict=True), where="post", color=BEST, label=f"best: {best:.2f}")
    for style, (name, value) in zip(("--", ":", "-."), lines.items(), strict=False):
        axes.axhline(value, color=BASE, ls=style, lw=1, label=f"{name}: {value:.2f}")
    axes.set(xlabel="trial", ylabel=f"{objective}, percent")
    axes.legend(frameon=False, fontsize=8)
    save(figure, path, DPI)


def points_of(trials: Sequence[FrozenTrial]) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Numbers and figures of complete trials, and those of pruned trials at their last part, by number.

    Args:
        trials: In any order.
    """
    trials = sorted(trials, key=lambda trial: trial.number)
    complete = [(t.number, t.value) for t in trials if t.state == TrialState.COMPLETE and t.value is not None]
    pruned = [
        (t.number, t.intermediate_values[max(t.intermediate_values)])
        for t in trials
        if t.state == TrialState.PRUNED and t.intermediate_values
    ]
    return complete, pruned


def draw_importance(importance: Mapping[str, float], objective: str, path: Path) -> None:
    """Draw the importance of the parameters as bars.

    Args:
        importance: Parameter -> share of the variation.
        objective: The figure's name.
        path: The PNG to write.
    """
    figure = Figure(figsize=(6, 1.2 + 0.35 * len(importance)), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(importance.items(), key=lambda item: item[1])
    bars = axes.barh([name for name, _ in ordered], [value for _, value in ordered], color=OTHER)
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.margins(x=0.12)
    axes.set_xlabel(f"fraction of the variation of {objective} (PED-ANOVA)")
    save(figure, path, DPI)
