"""What a comparison found, and its table in every form: files, terminal, W&B."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from kemr_lightning.comparison.cases import instance_rows
from kemr_lightning.comparison.models import Times
from kemr_lightning.comparison.pictures import draw_curves
from kemr_lightning.comparison.scores import ALL_FIGURES, OWN, Score
from kemr_lightning.comparison.settings import CompareSettings
from kemr_lightning.core.files import write_csv, write_json, write_text
from kemr_lightning.core.run_directory import COMPARISON, COMPARISON_TABLE, COMPARISON_TEXT, FIGURES, INSTANCES
from kemr_lightning.metrics.bootstrap import Difference
from kemr_lightning.metrics.segmentation import have_masks

Row = dict[str, Any]
HEADS = ["", *ALL_FIGURES, "parameters", "training", "inference"]
FEW_GROUPS = 15
"""With fewer slides a percentile interval is known to be too narrow."""
WIDTH = 180


@dataclass(frozen=True)
class Comparison:
    """Everything that is reported.

    Attributes:
        scores: The systems' scores, in the table's order.
        times: The times of each system, by name.
        settings: How figures and intervals were computed.
        groups: Number of slides that the test images belong to.
        warnings: What differs between the systems besides what they are.
        facts: Where the rows come from.
        how_to_time: How missing inference times can be had, to be read after "not recorded by the run; ".
    """

    scores: Sequence[Score]
    times: Mapping[str, Times]
    settings: CompareSettings
    groups: int
    warnings: Sequence[str] = field(default_factory=list)
    facts: Sequence[str] = field(default_factory=list)
    how_to_time: str = "inference can be measured for the comparison"

    @property
    def images(self) -> int:
        """Number of test images."""
        return len(self.scores[0].system.records)

    @property
    def instances(self) -> int:
        """Number of annotated instances in them."""
        return sum(len(item.truth) for item in self.scores[0].system.records)


def write_comparison(comparison: Comparison, directory: Path) -> None:
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
    draw_curves(systems, directory / FIGURES, comparison.settings.max_detections)
    write_text(directory / COMPARISON_TEXT, markdown(comparison))


def main_rows(comparison: Comparison) -> list[list[str]]:
    """The cells under `HEADS`."""
    rows = []
    for score in comparison.scores:
        name = score.system.name
        times = comparison.times[name]
        rows.append(
            [
                name,
                *(_figure(score.figures.get(figure)) for figure in ALL_FIGURES),
                f"{score.system.run.parameters / 1e6:.2f} M",
                "–" if times.training is None else f"{times.training / 60:.1f} min",
                "–" if times.inference is None else f"{times.inference:.2f} s",
            ]
        )
    return rows


def difference_tables(comparison: Comparison) -> dict[str, list[list[str]]]:
    """Baseline -> rows of cells: a system's name, then its difference in each of `ALL_FIGURES` with the interval."""
    tables: dict[str, list[list[str]]] = {}
    for score in comparison.scores:
        for base, compared in score.differences.items():
            cells = [_difference(compared.get(name)) for name in ALL_FIGURES]
            tables.setdefault(base, []).append([score.system.name, *cells])
    return tables


def markdown(comparison: Comparison) -> str:
    """The report in Markdown."""
    settings = comparison.settings
    level = f"{settings.level * 100:g} %"
    parts = [
        "# Comparison",
        f"{comparison.images} test images of {comparison.groups} slides, {comparison.instances} annotated instances; "
        "percent.",
        _markdown_table(HEADS, main_rows(comparison)),
    ]
    for base, rows in difference_tables(comparison).items():
        parts += [
            f"## Difference to {base}",
            f"Percentage points, and the {level} interval of a paired bootstrap over slides "
            f"({settings.resamples} resamples). Bold: the interval leaves out 0.",
            _markdown_table(["", *ALL_FIGURES], rows),
        ]
    parts += ["## Notes", "\n".join(f"- {line}" for line in footnotes(comparison))]
    return "\n\n".join(parts) + "\n"


def footnotes(comparison: Comparison) -> list[str]:
    """What the figures mean and what to beware of, the warnings first."""
    settings = comparison.settings
    lines = [f"**Not alike:** {line}." for line in comparison.warnings]
    if comparison.groups < FEW_GROUPS:
        lines.append(f"**Few slides:** intervals from {comparison.groups} slides are rather too narrow.")
    lines.append(
        f"IA: predictions with score ≥ {settings.ia_score:g}, mask IoU ≥ {settings.ia_iou:g}. {OWN}: the same with "
        "each system's own score, that with the highest F1 on validation images."
    )
    for score in comparison.scores:
        if score.threshold is not None:
            lines.append(
                f"{OWN} of {score.system.name}: score ≥ {score.threshold.score:.2f} (validation F1 "
                f"{score.threshold.f1:.2f}, {score.threshold.images} images); {score.precision:.2f} % of these "
                "predictions are right on the test images."
            )
        else:
            lines.append(f"{OWN} of {score.system.name}: no threshold, its validation images were not there.")
    measured = {times.measured for times in comparison.times.values()}
    lines.append(
        "Training: wall clock without validation. Inference: median of an image, refinement included"
        + (", measured side by side for this table." if measured == {True} else ", as the runs recorded it.")
    )
    if any(times.training is None or times.inference is None for times in comparison.times.values()):
        lines.append(f"–: not recorded by the run; {comparison.how_to_time}.")
    return [*lines, *(f"{fact}." for fact in comparison.facts)]


def flat_rows(comparison: Comparison) -> list[Row]:
    """A row per system at full precision, differences and intervals included; for CSV and W&B."""
    rows = []
    for score in comparison.scores:
        run, times = score.system.run, comparison.times[score.system.name]
        row: Row = {
            "system": score.system.name,
            **{figure: score.figures.get(figure, math.nan) for figure in ALL_FIGURES},
            "own score": math.nan if score.threshold is None else score.threshold.score,
            "precision at own score": score.precision,
            "parameters": run.parameters,
            "training seconds": times.training,
            "training CPU seconds": times.training_cpu,
            "model seconds per image": times.model,
            "refinement seconds per image": times.refinement,
            "inference seconds per image": times.inference,
        }
        for base, compared in score.differences.items():
            for figure, found in compared.items():
                key = f"{figure} - {base}"
                row |= {key: found.difference, f"{key} low": found.low, f"{key} high": found.high}
        rows.append({**row, "run": str(run.directory), "checkpoint": str(run.checkpoint)})
    return rows


def columns_of(rows: Sequence[Row]) -> list[str]:
    """All columns of some rows, the run and the checkpoint last."""
    last = ("run", "checkpoint")
    return [*dict.fromkeys(key for row in rows for key in row if key not in last), *last]


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, JSON-able."""
    systems = []
    for score in comparison.scores:
        row = score.system
        systems.append(
            {
                "name": row.name,
                "kind": row.kind,
                "run": str(row.run.directory),
                "checkpoint": str(row.run.checkpoint),
                "figures": dict(score.figures),
                "own_threshold": None if score.threshold is None else asdict(score.threshold),
                "precision_at_own_threshold": score.precision,
                "parameters": row.run.parameters,
                "times": asdict(comparison.times[row.name]),
                "differences": {
                    base: {figure: asdict(found) for figure, found in compared.items()}
                    for base, compared in score.differences.items()
                },
            }
        )
    settings = comparison.settings
    return {
        "images": comparison.images,
        "slides": comparison.groups,
        "instances": comparison.instances,
        "settings": {name: getattr(settings, name) for name in ("ia_score", "ia_iou", "resamples", "level", "seed")},
        "systems": systems,
        "warnings": list(comparison.warnings),
        "facts": list(comparison.facts),
    }


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


def log_to_wandb(run: Any, directory: Path) -> None:
    """Send the table, the figures and the pictures to a W&B run.

    Args:
        run: The run.
        directory: The directory of the comparison, with its files.
    """
    import wandb

    with (directory / COMPARISON_TABLE).open(newline="", encoding="utf-8") as stream:
        heads, *rows = list(csv.reader(stream))
    pictures = {f"compare/{p.stem}": wandb.Image(str(p)) for p in sorted((directory / FIGURES).glob("*.png"))}
    run.log({"compare/table": wandb.Table(columns=[*heads], data=rows), **pictures})
    content = json.loads((directory / COMPARISON).read_text(encoding="utf-8"))
    for system in content["systems"]:
        run.summary.update({f"compare/{system['name']}/{name}": value for name, value in system["figures"].items()})


def _rich(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(heads), "|---" + "|---:" * (len(heads) - 1) + "|", *(line(row) for row in rows)])


def _figure(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


def _difference(found: Difference | None) -> str:
    if found is None or math.isnan(found.difference) or math.isnan(found.low):
        return "–"
    text = f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
    return f"**{text}**" if found.low > 0 or found.high < 0 else text
