"""Crops of chosen cases, side by side: the image, its annotation, and what two systems made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from kemr_lightning.comparison.cases import Case, Choice, Found, Window, window_of
from kemr_lightning.comparison.systems import System
from kemr_lightning.core import rle
from kemr_lightning.metrics.records import Entry, ImageRecord
from kemr_lightning.output.drawing import INITIAL, REFINED, TRUTH, save
from kemr_lightning.output.mask_figures import contours, show

SIDE, GAP, BLOCK_GAP, CAPTION, HEAD, EDGE = 1.75, 0.05, 0.35, 0.24, 0.72, 0.1  # inches
DPI = 110
INK = "#222222"


def draw_side_by_side(
    choice: Choice,
    first: System,
    second: System,
    image_of: Callable[[str], Tensor],
    path: Path,
    titles: tuple[str, str, str],
    score: float = 0.5,
) -> bool:
    """Draw wins on the left and losses on the right, a row per case.

    Each case has four pictures: the image, the annotations, and the predictions of the first and of the second system.
    What the case is about is drawn broad, everything else of the same kind thin.

    Args:
        choice: The cases.
        first: A system.
        second: Another one.
        image_of: ``(H, W)`` uint8 of a test image, by its name.
        path: The PNG to write.
        titles: Of the picture, of the wins and of the losses.
        score: Predictions below it are not drawn.

    Returns:
        Whether there was anything to draw.
    """
    rows = max(len(choice.wins), len(choice.losses))
    if not rows:
        return False
    block = 4 * SIDE + 3 * GAP
    width, height = 2 * (EDGE + block) + BLOCK_GAP, HEAD + rows * (SIDE + CAPTION) + EDGE
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(EDGE / width, 1 - 0.2 / height, titles[0], fontsize=11, color=INK, va="center")
    for number, (cases, title) in enumerate(((choice.wins, titles[1]), (choice.losses, titles[2]))):
        left = EDGE + number * (block + BLOCK_GAP)
        figure.text(left / width, 1 - 0.5 / height, title, fontsize=9.5, color=INK, va="center", weight="bold")
        if not cases:
            figure.text(left / width, 1 - (HEAD + 0.2) / height, "none", fontsize=9, color="#777777", va="center")
        for row, case in enumerate(cases):
            bottom = height - HEAD - (row + 1) * (SIDE + CAPTION)
            places = [
                figure.add_axes(((left + i * (SIDE + GAP)) / width, bottom / height, SIDE / width, SIDE / height))
                for i in range(4)
            ]
            _draw_case(places, case, first, second, image_of, score)
    save(figure, path, DPI)
    return True


def _draw_case(
    places: Sequence[Axes],
    case: Case,
    first: System,
    second: System,
    image_of: Callable[[str], Tensor],
    score: float,
) -> None:
    item = first.records[case.image]
    window = window_of(case, first.records)
    image = image_of(item.name).cpu().numpy()
    for axes in places:
        show(axes, image, {}, window, 1.0, round(SIDE * DPI))
    places[0].set_title(_shortened(item.name), loc="left", pad=3, fontsize=7.5, color=INK)
    _outline(places[1], item, item.truth, case.truth, window, TRUTH)
    places[1].set_title("annotated", loc="left", pad=3, fontsize=7.5, color=INK)
    sides = ((places[2], first, case.first, INITIAL), (places[3], second, case.second, REFINED))
    for axes, system, found, colour in sides:
        record = system.records[case.image]
        kept = [p if p.score >= score else None for p in record.predictions]
        _outline(axes, record, kept, found.prediction, window, colour)
        axes.set_title(f"{system.name}  {_said(found)}", loc="left", pad=3, fontsize=7.5, color=INK)


def _outline(
    axes: Axes,
    item: ImageRecord,
    entries: Sequence[Entry | None],
    chosen: int | None,
    window: Window,
    colour: str,
) -> None:
    x0, y0, x1, y1 = window
    for position, entry in enumerate(entries):
        if entry is None or entry.counts is None:
            continue
        x, y, w, h = rle.tight_box(item.rle(entry))
        if x > x1 or y > y1 or x + w < x0 or y + h < y0:
            continue
        lines: list[NDArray[np.float64]] = contours(rle.decode(item.rle(entry)))
        broad = position == chosen
        collection = LineCollection(lines, colors=colour, linewidths=1.9 if broad else 0.7, alpha=1 if broad else 0.8)
        collection.set_joinstyle("round")
        axes.add_collection(collection)


def _said(found: Found) -> str:
    return "not found" if found.prediction is None else f"IoU {found.iou:.2f}"


def _shortened(name: str, length: int = 30) -> str:
    return name if len(name) <= length else "..." + name[3 - length :]
