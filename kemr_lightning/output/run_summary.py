"""The summary that a run prints at its end: the results, where everything is, what to do next."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from kemr_lightning.core.run_directory import CONTENTS, EXTENDED, METRICS
from kemr_lightning.metrics.segmentation import HEADLINE

NOTHING_FOUND = (
    "No prediction lies on an annotation. Was the model trained on images of this kind: dark on bright or bright on "
    "dark, chromosomes of about this size?"
)


def print_summary(
    directory: Path, next_commands: Sequence[tuple[str, Sequence[str]]] = (), console: Console | None = None
) -> None:
    """Print a run's results, its files and the commands to continue with.

    Args:
        directory: The run directory; the results are those in its ``metrics.json``, if there is one.
        next_commands: Commands to suggest: the purpose of each and its words.
        console: Where to print; the standard output by default.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    parts: list[Any] = [Text()]
    metrics = directory / METRICS
    if metrics.is_file():
        extended = directory / EXTENDED
        more = json.loads(extended.read_text(encoding="utf-8")) if extended.is_file() else {}
        figures = json.loads(metrics.read_text(encoding="utf-8"))
        parts += [results_table(figures, more), Text()]
        if nothing_found(figures):
            parts += [Text(NOTHING_FOUND, style="bold red"), Text()]
        if len(more.get("initial", {}).get("per_class", {})) > 1:
            parts += [class_table(more), Text()]
    parts += [_places(directory)]
    if next_commands:
        parts += [Text("\nnext", style="bold")]
        for purpose, words in next_commands:
            parts += [Text(f"  {purpose}", style="dim"), Text(f"    {shlex.join(words)}")]
    console.print(Group(*parts))


def results_table(metrics: Mapping[str, Any], extended: Mapping[str, Any] | None = None) -> Table:
    """The figures of a test as a table: initial, refined and their difference.

    Args:
        metrics: The content of ``metrics.json``.
        extended: The content of ``metrics_extended.json``, for the thresholds of IA.

    Returns:
        The table: the headline figures, then any others of the metric.
    """
    thresholds = (extended or {}).get("initial", {}).get("thresholds")
    title = f"{metrics['images']} images, {metrics['instances']} annotated instances"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("percent")
    table.add_column("initial", justify="right")
    refined = metrics.get("refined")
    if refined is not None:
        table.add_column("refined", justify="right", style="bold")
        table.add_column("difference", justify="right")
    for name in dict.fromkeys([*HEADLINE, *metrics["initial"]]):
        label = name
        if name == "IA" and thresholds:
            label = f"IA (score ≥ {thresholds['ia_score']:g}, IoU ≥ {thresholds['ia_iou']:g})"
        before = _number(metrics["initial"].get(name))
        row: list[str | Text] = [label, _text(before)]
        if refined is not None:
            after = _number(refined.get(name))
            change = after - before
            style = "green" if change > 0 else "red" if change < 0 else "dim"
            row += [_text(after), Text("–" if math.isnan(change) else f"{change:+.2f}", style=style)]
        table.add_row(*row)
    return table


def class_table(extended: Mapping[str, Any]) -> Table:
    """The figures of each class as a table.

    Args:
        extended: The content of ``metrics_extended.json``.

    Returns:
        The table: a row per class with the figures of the final masks and, with refinement, the initial MaskAP.
    """
    before = extended["initial"]["per_class"]
    after = extended.get("refined", {}).get("per_class", before)
    table = Table(title="classes", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("class")
    two = after is not before
    for name in ("annotated", "predicted", "BoxAP", *(("MaskAP initial", "refined") if two else ("MaskAP",)), "IA"):
        table.add_column(name, justify="right", style="bold" if name == "refined" else None)
    for label in dict.fromkeys([*before, *after]):
        old, new = (layer.get(label, {}) for layer in (before, after))
        figures = [new.get("BoxAP"), *([old.get("MaskAP")] if two else []), new.get("MaskAP"), new.get("IA")]
        counts = [str(new.get(name, 0)) for name in ("annotated", "predicted")]
        table.add_row(label, *counts, *(_text(_number(value)) for value in figures))
    return table


def nothing_found(metrics: Mapping[str, Any]) -> bool:
    """Whether there are annotations, and no prediction comes near any of them.

    Args:
        metrics: The content of ``metrics.json``.
    """
    return bool(metrics["instances"]) and _number(metrics["initial"].get("AP50")) == 0


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _text(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _places(directory: Path) -> Group:
    """The files and folders of a run, each with what it contains."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, meaning in CONTENTS.items():
        path = directory / name
        if path.exists():
            table.add_row(f"{name}/" if path.is_dir() else name, Text(meaning, style="dim"))
    return Group(Text(f"everything is in {directory}", style="bold"), table)
