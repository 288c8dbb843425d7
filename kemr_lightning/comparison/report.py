"""Everything a comparison writes into its directory, prints and sends to W&B."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from kemr_lightning.comparison.cases import (
    Case,
    Choice,
    cases_of,
    choose_found,
    choose_masks,
    instance_rows,
    mean_difference,
)
from kemr_lightning.comparison.figures import draw_curves
from kemr_lightning.comparison.scores import ALL_FIGURES
from kemr_lightning.comparison.side_by_side import draw_side_by_side
from kemr_lightning.comparison.systems import KEMR, System
from kemr_lightning.comparison.table import (
    HEADS,
    Comparison,
    as_json,
    columns_of,
    difference_tables,
    flat_rows,
    footnotes,
    main_rows,
    markdown,
)
from kemr_lightning.core.files import write_csv, write_json, write_text
from kemr_lightning.core.run_directory import COMPARISON, COMPARISON_TABLE, COMPARISON_TEXT, FIGURES, INSTANCES
from kemr_lightning.metrics.segmentation import have_masks

WIDTH = 180


def write_report(comparison: Comparison, directory: Path) -> None:
    """Write the table in all its forms, every annotation's IoU in every system, and the curves.

    Args:
        comparison: What was found.
        directory: The run directory.
    """
    systems = [score.system for score in comparison.scores]
    rows = flat_rows(comparison)
    write_csv(directory / COMPARISON_TABLE, columns_of(rows), rows)
    write_json(directory / COMPARISON, as_json(comparison), indent=1)
    if have_masks(systems[0].records):
        found = instance_rows(systems, comparison.settings.ia_score, comparison.settings.ia_iou)
        if found:
            write_csv(directory / INSTANCES, list(found[0]), found)
    draw_curves(systems, directory / FIGURES)
    write_text(directory / COMPARISON_TEXT, markdown(comparison))


def pairs_to_show(systems: Sequence[System], baselines: Sequence[System]) -> list[tuple[System, System]]:
    """Which systems are shown side by side: each baseline and KEMR-Net, or without one the last row."""
    last = next((row for row in systems if row.kind == KEMR), systems[-1])
    return [(base, last) for base in baselines if base.name != last.name] or [(systems[0], last)]


def choose(
    first: System, second: System, comparison: Comparison, count: int
) -> dict[str, tuple[Choice, tuple[str, str, str]]]:
    """The cases of two systems, with their titles, by what they are about: ``masks`` and ``found``."""
    cases: list[Case] = cases_of(first, second, comparison.settings.ia_score, comparison.settings.ia_iou)
    masks = choose_masks(cases, first.records, count)
    found = choose_found(cases, first.records, count)
    mean = mean_difference(cases)
    return {
        "masks": (
            masks,
            (
                f"Masks of {second.name} against {first.name}: {masks.compared} chromosomes found by both, "
                f"IoU {mean:+.4f} on average, shown are the largest differences",
                f"better by more than 0.02: {masks.better}",
                f"worse by more than 0.02: {masks.worse}",
            ),
        ),
        "found": (
            found,
            (
                f"Found by {second.name} or by {first.name} alone, of {found.compared} chromosomes",
                f"by {second.name} alone: {found.better}",
                f"by {first.name} alone: {found.worse}",
            ),
        ),
    }


def draw_cases(
    pairs: Sequence[tuple[System, System]],
    comparison: Comparison,
    images: Callable[[set[str]], Mapping[str, Tensor]],
    count: int,
    folder: Path,
) -> list[Path]:
    """Draw the cases of each pair: ``SECOND_vs_FIRST_masks.png`` and ``..._found.png``.

    Args:
        pairs: First and second systems.
        comparison: For the thresholds.
        images: Names -> the test images that have them, as far as they are there.
        count: Wins and losses in each picture.
        folder: Where the PNGs go.

    Returns:
        The files drawn.
    """
    drawn = []
    for first, second in pairs:
        for about, (choice, titles) in choose(first, second, comparison, count).items():
            wanted = {first.records[case.image].name for case in (*choice.wins, *choice.losses)}
            found = images(wanted)
            if wanted - set(found):
                continue
            path = folder / f"{second.kind}_vs_{first.kind}_{about}.png"
            score = comparison.settings.ia_score
            if draw_side_by_side(choice, first, second, found.__getitem__, path, titles, score):
                drawn.append(path)
    return drawn


def print_report(comparison: Comparison, console: Console | None = None) -> None:
    """Print the tables and footnotes.

    Args:
        comparison: What was found.
        console: Where; the standard output by default.
    """
    # Wide enough for every column: a line that a narrow terminal wraps can be read, a cell cut short cannot.
    console = console or Console(highlight=False, soft_wrap=True, width=max(Console().width, WIDTH))
    console.print(_rich(f"{comparison.images} images, {comparison.instances} instances", HEADS, main_rows(comparison)))
    for base, rows in difference_tables(comparison).items():
        plain = [[cell.replace("**", "") for cell in row] for row in rows]
        console.print(_rich(f"difference to {base}", ["", *ALL_FIGURES], plain))
    for line in footnotes(comparison):
        console.print(f"- {line.replace('**', '')}", markup=False)


def _rich(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def log_to_wandb(run: Any, directory: Path) -> None:
    """Send the table, the figures and the pictures to a W&B run.

    Args:
        run: The run.
        directory: Of the comparison, written already.
    """
    import wandb

    with (directory / COMPARISON_TABLE).open(newline="", encoding="utf-8") as stream:
        heads, *rows = list(csv.reader(stream))
    pictures = {f"compare/{p.stem}": wandb.Image(str(p)) for p in sorted((directory / FIGURES).glob("*.png"))}
    run.log({"compare/table": wandb.Table(columns=[*heads], data=rows), **pictures})
    content = json.loads((directory / COMPARISON).read_text(encoding="utf-8"))
    for system in content["systems"]:
        run.summary.update({f"compare/{system['name']}/{name}": value for name, value in system["figures"].items()})
