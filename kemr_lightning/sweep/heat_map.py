"""A sweep's figures as heat maps over the numbers that its jobs vary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kemr_lightning.core.overrides import number_or_text
from kemr_lightning.output.drawing import save
from kemr_lightning.sweep.job_records import JobRecord, varied_keys

FIRST_AXES = ("refine.sigma_alpha", "refine.sigma_beta")
"""Keys that come first on the axes, if they are varied."""


def draw_heat_map(records: Sequence[JobRecord], name: str, path: Path) -> bool:
    """Draw a figure over the two numbers that the jobs vary, or in a single row over one number.

    Of more than two numbers the sigmas come first and a seed last. Where jobs differ in something else too (a seed, a
    model, a third number), the mean is drawn.

    Args:
        records: The jobs.
        name: One of the metric's figures, for the final masks.
        path: The PNG to write.

    Returns:
        Whether there was anything to draw.
    """
    scored = [item for item in records if item.status == "done" and item.final.get(name) is not None]
    keys = [key for key in varied_keys(scored) if all(_number(item, key) is not None for item in scored)]
    keys.sort(key=lambda key: (FIRST_AXES.index(key) if key in FIRST_AXES else len(FIRST_AXES), key == "seed"))
    if not scored or not keys:
        return False
    down, across = (keys[0], keys[1]) if len(keys) > 1 else (None, keys[0])
    rows = sorted({_number(item, down) or 0.0 for item in scored}) if down is not None else [0.0]
    columns = sorted({_number(item, across) or 0.0 for item in scored})
    values = _means(scored, name, (down, rows), (across, columns))
    others = [key for key in varied_keys(scored) if key not in (down, across)]
    figure = Figure(figsize=(1.8 + 0.85 * max(len(columns), 3), 1.5 + 0.6 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("0.85")
    picture = axes.imshow(values, cmap="viridis", origin="lower", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (i, j), value in np.ndenumerate(values):
        shown, colour = ("–", "black") if np.isnan(value) else (f"{value:.2f}", "white" if value < middle else "black")
        axes.text(j, i, shown, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
    axes.set_yticks(range(len(rows)), [f"{value:g}" for value in rows] if down is not None else [""])
    axes.set_xlabel(across)
    axes.set_ylabel(down or "")
    axes.set_title(f"{name}, percent" + (f" (mean over {', '.join(others)})" if others else ""), fontsize=10)
    figure.colorbar(picture, ax=axes)
    save(figure, path, dpi=130)
    return True


def _means(
    records: Sequence[JobRecord],
    name: str,
    down: tuple[str | None, Sequence[float]],
    across: tuple[str, Sequence[float]],
) -> NDArray[np.float64]:
    """The mean figure of the jobs with each pair of numbers.

    Args:
        records: Jobs that have the figure.
        name: The figure.
        down: A key and its values, one per row; the key is None if there is only one row.
        across: A key and its values, one per column.

    Returns:
        ``(rows, columns)``; NaN where there is no job.
    """
    values = np.full((len(down[1]), len(across[1])), np.nan)
    for i, row in enumerate(down[1]):
        for j, column in enumerate(across[1]):
            cell = [
                float(item.final[name] or 0.0)
                for item in records
                if (down[0] is None or _number(item, down[0]) == row) and _number(item, across[0]) == column
            ]
            values[i, j] = np.mean(cell) if cell else np.nan
    return values


def _number(item: JobRecord, key: str | None) -> float | None:
    """The value of a key that a job varies, if it is a number."""
    value = number_or_text(item.varied.get(key or "", ""))
    return None if isinstance(value, str) else float(value)
