"""Curves of all systems in one picture each."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from kemr_lightning.comparison.systems import BLENDMASK, CASCADE, KEMR, MASK_RCNN, System
from kemr_lightning.core.run_directory import AP_OVER_IOU, PRECISION_RECALL
from kemr_lightning.metrics.segmentation import extended_figures
from kemr_lightning.output.curve_figures import ap_over_iou, precision_recall

COLOURS = {MASK_RCNN: "#0072B2", BLENDMASK: "#CC79A7", CASCADE: "#009E73", KEMR: "#D55E00"}
"""Of the first row of each kind, the same in every comparison (Okabe and Ito's)."""
FURTHER = ("#E69F00", "#56B4E9", "#222222", "#999999")
"""Of other rows, in turn."""
IOUS = (0.5, 0.75)


def draw_curves(systems: Sequence[System], folder: Path) -> list[Path]:
    """Draw precision over recall at `IOUS` and AP over the IoU threshold.

    Args:
        systems: The rows.
        folder: Where the PNGs go.

    Returns:
        The files.
    """
    extended = {row.name: extended_figures(row.records) for row in systems}
    names = {row.name: row.name for row in systems}
    colours = colours_of(systems)
    precision_recall(extended, folder / PRECISION_RECALL, IOUS, names, colours)
    ap_over_iou(extended, folder / AP_OVER_IOU, names, colours)
    return [folder / PRECISION_RECALL, folder / AP_OVER_IOU]


def colours_of(systems: Sequence[System]) -> dict[str, str]:
    """The colour of each row, by its name."""
    first, further = dict(COLOURS), itertools.cycle(FURTHER)
    return {row.name: first.pop(row.kind) if row.kind in first else next(further) for row in systems}
