"""Pictures of a comparison: curves of all systems, and chosen cases of two systems side by side."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from kemr_lightning.comparison.cases import (
    NOTABLE,
    Case,
    Choice,
    Found,
    Window,
    case_window,
    cases_of,
    choose_found,
    choose_masks,
    mean_difference,
)
from kemr_lightning.comparison.settings import CompareSettings
from kemr_lightning.comparison.systems import BLENDMASK, CASCADE, KEMR, MASK_RCNN, System
from kemr_lightning.core import rle
from kemr_lightning.core.run_directory import AP_OVER_IOU, PRECISION_RECALL, case_picture_name
from kemr_lightning.metrics.average_precision import MAX_DETECTIONS
from kemr_lightning.metrics.records import Entry, ImageRecord
from kemr_lightning.metrics.segmentation import extended_figures
from kemr_lightning.output.curve_figures import ap_over_iou, precision_recall
from kemr_lightning.output.drawing import INITIAL, REFINED, TRUTH, save
from kemr_lightning.output.mask_figures import contours, show

COLOURS = {MASK_RCNN: "#0072B2", BLENDMASK: "#CC79A7", CASCADE: "#009E73", KEMR: "#D55E00"}
"""Colours of the first row of each kind, the same in every comparison (Okabe and Ito's palette)."""
FURTHER = ("#E69F00", "#56B4E9", "#222222", "#999999", "#7F3C8D", "#8C510A", "#D4C800", "#332288")
"""Colours of other rows, in turn."""
IOUS = (0.5, 0.75)

SIDE, GAP, BLOCK_GAP, CAPTION, HEAD, EDGE = 1.75, 0.05, 0.35, 0.24, 0.72, 0.1  # inches
DPI = 110
INK = "#222222"

Images = Callable[[set[str]], Mapping[str, Tensor]]
"""Names of test images -> the pixels ``(H, W)`` uint8 of those that are there."""


def draw_curves(systems: Sequence[System], folder: Path, max_detections: int = MAX_DETECTIONS) -> list[Path]:
    """Draw precision over recall at `IOUS` and AP over the IoU threshold.

    Args:
        systems: The rows.
        folder: Where the PNGs go.
        max_detections: Of each image and class so many detections count.

    Returns:
        The files.
    """
    extended = {row.name: extended_figures(row.records, max_detections=max_detections) for row in systems}
    names = {row.name: row.name for row in systems}
    colours = colours_of(systems)
    precision_recall(extended, folder / PRECISION_RECALL, IOUS, names, colours)
    ap_over_iou(extended, folder / AP_OVER_IOU, names, colours)
    return [folder / PRECISION_RECALL, folder / AP_OVER_IOU]


def colours_of(systems: Sequence[System]) -> dict[str, str]:
    """The colour of each row, by its name."""
    first, further = dict(COLOURS), itertools.cycle(FURTHER)
    return {row.name: first.pop(row.kind) if row.kind in first else next(further) for row in systems}


def pairs_to_show(systems: Sequence[System], baselines: Sequence[System]) -> list[tuple[System, System]]:
    """Which systems are shown side by side: each baseline and KEMR-Net, or the last row where there is no KEMR-Net."""
    last = next((row for row in systems if row.kind == KEMR), systems[-1])
    return [(base, last) for base in baselines if base.name != last.name] or [(systems[0], last)]


def draw_cases(
    pairs: Sequence[tuple[System, System]], settings: CompareSettings, images: Images, folder: Path
) -> list[Path]:
    """Draw the cases of each pair: ``SECOND_vs_FIRST_masks.png`` and ``..._found.png``.

    Args:
        pairs: First and second systems.
        settings: Thresholds of IA, and the number of cases.
        images: Gives the test images.
        folder: Where the PNGs go.

    Returns:
        The files drawn.
    """
    drawn = []
    for first, second in pairs:
        for about, sheet in _sheets(first, second, settings):
            wanted = {first.records[case.image].name for case in (*sheet.choice.wins, *sheet.choice.losses)}
            found = images(wanted)
            if wanted - set(found):
                continue
            path = folder / case_picture_name(_file_name(second), _file_name(first), about)
            if draw_side_by_side(sheet, first, second, found, path, settings.ia_score):
                drawn.append(path)
    return drawn


def _file_name(system: System) -> str:
    """The kind of a system in a file's name."""
    return re.sub(r"[^\w.+-]", "_", system.kind)


@dataclass(frozen=True)
class Sheet:
    """The content of a picture.

    Attributes:
        choice: Its cases.
        title: Its title.
        wins_title: The title of the wins.
        losses_title: The title of the losses.
    """

    choice: Choice
    title: str
    wins_title: str
    losses_title: str


def _sheets(first: System, second: System, settings: CompareSettings) -> Iterator[tuple[str, Sheet]]:
    """What two systems' pictures are about, ``masks`` and ``found``, and their content."""
    cases = cases_of(first, second, settings.ia_score, settings.ia_iou)
    masks = choose_masks(cases, first.records, settings.crops)
    yield (
        "masks",
        Sheet(
            masks,
            f"Masks of {second.name} against {first.name}: {masks.compared} chromosomes found by both, "
            f"IoU {mean_difference(cases):+.4f} on average, shown are the largest differences",
            f"better by more than {NOTABLE}: {masks.better}",
            f"worse by more than {NOTABLE}: {masks.worse}",
        ),
    )
    found = choose_found(cases, first.records, settings.crops)
    yield (
        "found",
        Sheet(
            found,
            f"Found by {second.name} or by {first.name} alone, of {found.compared} chromosomes",
            f"by {second.name} alone: {found.better}",
            f"by {first.name} alone: {found.worse}",
        ),
    )


def draw_side_by_side(
    sheet: Sheet, first: System, second: System, images: Mapping[str, Tensor], path: Path, score: float = 0.5
) -> bool:
    """Draw wins on the left and losses on the right, a row per case.

    Each case has four pictures: the image, the annotations, and the predictions of the first and of the second system.
    The instance that the case is about has broad outlines, all others thin ones.

    Args:
        sheet: The cases with their titles.
        first: A system.
        second: Another one.
        images: Test images ``(H, W)`` uint8 by their names, at least those of the cases.
        path: The PNG to write.
        score: Predictions below it are not drawn.

    Returns:
        Whether there was anything to draw.
    """
    choice = sheet.choice
    rows = max(len(choice.wins), len(choice.losses))
    if not rows:
        return False
    block = 4 * SIDE + 3 * GAP
    width, height = 2 * (EDGE + block) + BLOCK_GAP, HEAD + rows * (SIDE + CAPTION) + EDGE
    figure = Figure(figsize=(width, height), facecolor="white")
    figure.text(EDGE / width, 1 - 0.2 / height, sheet.title, fontsize=11, color=INK, va="center")
    for number, (cases, title) in enumerate(((choice.wins, sheet.wins_title), (choice.losses, sheet.losses_title))):
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
            _draw_case(places, case, first, second, images, score)
    save(figure, path, DPI)
    return True


def _draw_case(
    places: Sequence[Axes], case: Case, first: System, second: System, images: Mapping[str, Tensor], score: float
) -> None:
    """Draw one case into its four axes."""
    item = first.records[case.image]
    window = case_window(case, first.records)
    image = images[item.name].cpu().numpy()
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
    """Draw the outlines of the masks that reach into a window, the chosen one broad; None is skipped."""
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
