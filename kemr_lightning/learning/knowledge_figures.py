"""Figures of what was learned about refinement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kemr_lightning.learning.fit_crf import Fit
from kemr_lightning.output.drawing import save
from kemr_lightning.refinement.experiences import HARM, Experiences
from kemr_lightning.refinement.states import STATE_NAMES

GAINED, LOST = "#0072B2", "#D55E00"
"""Blue and vermilion of Okabe & Ito's palette, which people with any kind of colour vision can distinguish."""

GROUPS = 5
"""Groups of about equal size that instances are divided into by each state."""

DPI = 130


def draw_fits(fits: Mapping[str, Sequence[Fit]], evidence: Sequence[tuple[int, int, float]], path: Path) -> None:
    """Draw learning curves: the evidence network's loss per fold, and the validation IoU of every start of each fit.

    Args:
        fits: By name, best start first.
        evidence: ``(fold, epoch, loss)``; a fold below 0 stands for the network fitted to all examples.
        path: The PNG to write.
    """
    figure = Figure(figsize=(4.5 * (len(fits) + 1), 3.4), layout="constrained")
    axes = figure.subplots(1, len(fits) + 1, squeeze=False)[0]
    for fold in sorted({row[0] for row in evidence}):
        points = [(epoch, loss) for own, epoch, loss in evidence if own == fold]
        axes[0].plot(*zip(*points, strict=True), label="all images" if fold < 0 else f"without fold {fold + 1}")
    axes[0].set(title="evidence network", xlabel="epoch", ylabel="loss (1 - soft IoU + cross-entropy)")
    if evidence:
        axes[0].legend(frameon=False)
    for axis, (name, starts) in zip(axes[1:], fits.items(), strict=True):
        for rank, fit in enumerate(starts):
            steps, _, ious = zip(*fit.history, strict=True)
            axis.plot(steps, ious, marker="o", ms=3, label=f"start {rank + 1}: best {fit.iou:.4f}")
        axis.set(title=f"CRF parameters ({name})", xlabel="step", ylabel="mean IoU, validation")
        axis.legend(frameon=False)
    save(figure, path, DPI)


def draw_states(experiences: Experiences, actions: Sequence[str], path: Path) -> None:
    """Draw which instances gain and which lose: by fifths of every state, the shares of both and the mean gain.

    Args:
        experiences: What is remembered.
        actions: Names of actions 1, 2, ...; the first is drawn.
        path: The PNG to write.
    """
    chosen = experiences.actions == 1
    states, gain = experiences.states[chosen].numpy(), experiences.gain[chosen].numpy()
    columns = 4
    rows = -(-len(STATE_NAMES) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axis, name, values in zip(axes.flat, STATE_NAMES, states.T, strict=False):
        _draw_state(axis, name, values, gain)
    for axis in axes.flat[len(STATE_NAMES) :]:
        axis.set_axis_off()
    figure.suptitle(
        f"Action “{actions[0]}” by state (fifths of the instances): % gaining (blue) and losing (orange) more than "
        f"{HARM} IoU; line: mean gain x 1000",
        fontsize=10,
    )
    save(figure, path, DPI)


def _draw_state(axis: Axes, name: str, values: NDArray[np.float32], gain: NDArray[np.float32]) -> None:
    """Draw one state's groups: bars up for gains, bars down for losses, a line for the mean gain."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, GROUPS + 1)))
    if len(edges) < 2:
        axis.set_title(f"{name} (always {values[0]:.2g})", fontsize=9)
        return
    group = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    gains = [gain[group == number] for number in range(len(edges) - 1)]
    position = np.arange(len(gains))
    axis.bar(position, [100 * float((own > HARM).mean()) if len(own) else 0 for own in gains], color=GAINED)
    axis.bar(position, [-100 * float((own < -HARM).mean()) if len(own) else 0 for own in gains], color=LOST)
    axis.plot(position, [1000 * float(own.mean()) if len(own) else 0 for own in gains], "k.-")
    labels = [f"{low:.3g}–{high:.3g}" for low, high in pairwise(edges)]
    axis.set_xticks(position, labels, fontsize=6, rotation=20, ha="right", rotation_mode="anchor")
    axis.set_title(name, fontsize=9)
    axis.axhline(0, color="0.5", lw=0.6)
