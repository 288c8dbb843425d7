"""The table: as Markdown with footnotes, as rows for CSV and W&B, as JSON at full precision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kemr_lightning.comparison.scores import ALL_FIGURES, OWN, Score, Settings
from kemr_lightning.comparison.times import Times
from kemr_lightning.metrics.bootstrap import Difference

Row = dict[str, Any]
FEW_GROUPS = 15
"""Below so many slides a percentile interval is known to be too narrow."""


@dataclass(frozen=True)
class Comparison:
    """Everything that is reported.

    Attributes:
        scores: Of the systems, in the table's order.
        times: Of the systems, by name.
        parameters: Number of trained parameters, by name.
        settings: Of figures and bootstrap.
        images: Test images.
        instances: Annotated instances in them.
        groups: Slides that the images belong to.
        warnings: What differs between the systems besides what they are.
        facts: Where the rows come from.
    """

    scores: Sequence[Score]
    times: Mapping[str, Times]
    parameters: Mapping[str, int]
    settings: Settings
    images: int
    instances: int
    groups: int
    warnings: Sequence[str] = field(default_factory=list)
    facts: Sequence[str] = field(default_factory=list)


HEADS = ["", *ALL_FIGURES, "parameters", "training", "inference"]


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
                _millions(comparison.parameters.get(name)),
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
        lines.append("–: not recorded by the run; compare.time_images=N measures the inference of N images.")
    return [*lines, *(f"{fact}." for fact in comparison.facts)]


def flat_rows(comparison: Comparison) -> list[Row]:
    """A row per system at full precision, differences and intervals included; for CSV and W&B."""
    rows = []
    for score in comparison.scores:
        name = score.system.name
        times = comparison.times[name]
        row: Row = {"system": name, **{figure: score.figures.get(figure, math.nan) for figure in ALL_FIGURES}}
        row |= {
            "own score": math.nan if score.threshold is None else score.threshold.score,
            "precision at own score": score.precision,
            "parameters": comparison.parameters.get(name),
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
        rows.append({**row, "run": str(score.system.run.directory), "checkpoint": str(score.system.run.checkpoint)})
    return rows


def columns_of(rows: Sequence[Row]) -> list[str]:
    """All columns of some rows, the run and the checkpoint last."""
    last = ("run", "checkpoint")
    return [*dict.fromkeys(key for row in rows for key in row if key not in last), *last]


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, JSON-able."""
    systems = []
    for score in comparison.scores:
        name = score.system.name
        systems.append(
            {
                "name": name,
                "kind": score.system.kind,
                "run": str(score.system.run.directory),
                "checkpoint": str(score.system.run.checkpoint),
                "figures": dict(score.figures),
                "own_threshold": None if score.threshold is None else asdict(score.threshold),
                "precision_at_own_threshold": score.precision,
                "parameters": comparison.parameters.get(name),
                "times": asdict(comparison.times[name]),
                "differences": {
                    base: {figure: asdict(found) for figure, found in compared.items()}
                    for base, compared in score.differences.items()
                },
            }
        )
    return {
        "images": comparison.images,
        "slides": comparison.groups,
        "instances": comparison.instances,
        "settings": asdict(comparison.settings),
        "systems": systems,
        "warnings": list(comparison.warnings),
        "facts": list(comparison.facts),
    }


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(heads), "|---" + "|---:" * (len(heads) - 1) + "|", *(line(row) for row in rows)])


def _figure(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


def _millions(count: int | None) -> str:
    return "–" if count is None else f"{count / 1e6:.2f} M"


def _difference(found: Difference | None) -> str:
    if found is None or math.isnan(found.difference) or math.isnan(found.low):
        return "–"
    text = f"{found.difference:+.2f} [{found.low:+.2f}, {found.high:+.2f}]"
    return f"**{text}**" if found.low > 0 or found.high < 0 else text
