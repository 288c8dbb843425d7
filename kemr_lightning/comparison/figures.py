"""Curves of all systems in one picture each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kemr_lightning.comparison.systems import System
from kemr_lightning.metrics.segmentation import extended_figures
from kemr_lightning.output.figures import ap_over_iou, precision_recall

COLOURS = ("#0072B2", "#CC79A7", "#009E73", "#D55E00", "#E69F00", "#56B4E9", "#222222", "#999999")
IOUS = (0.5, 0.75)
PRECISION_RECALL, AP_OVER_IOU = "precision_recall.png", "ap_over_iou.png"


def draw_curves(systems: Sequence[System], folder: Path) -> list[Path]:
    """Draw precision over recall at `IOUS` and AP over the IoU threshold.

    Args:
        systems: Up to eight have colours of their own.
        folder: Where the PNGs go.

    Returns:
        The files.
    """
    extended = {row.name: extended_figures(row.records) for row in systems}
    names = {row.name: row.name for row in systems}
    colours = {row.name: COLOURS[number % len(COLOURS)] for number, row in enumerate(systems)}
    precision_recall(extended, folder / PRECISION_RECALL, IOUS, names, colours)
    ap_over_iou(extended, folder / AP_OVER_IOU, names, colours)
    return [folder / PRECISION_RECALL, folder / AP_OVER_IOU]
