"""A sweep at a glance: ``sweep.csv``, heat maps over the varied numbers, and the best job in ``best.txt``."""

from __future__ import annotations

import csv
import io
import logging
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kemr_lightning.core.files import whole, write_text
from kemr_lightning.core.overrides import number_or_text, override, split
from kemr_lightning.core.run_directory import SWEEP_BEST, SWEEP_TABLE
from kemr_lightning.metrics.segmentation import FIGURES
from kemr_lightning.sweep.jobs import JobRecord, read_records

logger = logging.getLogger(__name__)

MAPPED = ("MaskAP", "IA")
ORDER = ("refine.sigma_alpha", "refine.sigma_beta")
"""Put on a heat map's axes first, where they are varied."""


def write_table(sweep: Path) -> None:
    """Write ``sweep.csv`` and ``best.txt`` from the jobs' records.

    Jobs of several processes may do so at once. Each looks again after it has written, so that the last table
    written holds every record.

    Args:
        sweep: The sweep's directory.
    """
    records = read_records(sweep)
    while True:
        write_text(sweep / SWEEP_TABLE, _csv(records))
        best = best_of(records)
        if best is not None:
            write_text(sweep / SWEEP_BEST, f"{best_words(best)}\n{best_command(best)}\n")
        else:
            (sweep / SWEEP_BEST).unlink(missing_ok=True)
        now = read_records(sweep)
        if now == records:
            return
        records = now


def _csv(records: Sequence[JobRecord]) -> str:
    keys = varied_keys(records)
    groups = [name for name in ("initial", "refined") if any(name in item.metrics for item in records)]
    columns = [f"{group}/{name}" for group in groups for name in FIGURES]
    columns += [f"gain/{name}" for name in FIGURES] if "refined" in groups else []
    text = io.StringIO()
    table = csv.DictWriter(
        text, ["job", "directory", "status", *keys, *columns, "score", "seconds", "cpu_seconds", "error"]
    )
    table.writeheader()
    for item in records:
        row: dict[str, Any] = {key: item.varied.get(key, "") for key in keys}
        row |= {"job": item.number, "directory": item.directory, "status": item.status, "score": item.score}
        row |= {"seconds": item.seconds, "cpu_seconds": item.cpu_seconds, "error": item.error or ""}
        for group in groups:
            row |= {f"{group}/{name}": value for name, value in item.metrics.get(group, {}).items()}
        if "refined" in item.metrics:
            before, after = item.metrics["initial"], item.metrics["refined"]
            row |= {f"gain/{name}": _difference(after.get(name), before.get(name)) for name in FIGURES}
        table.writerow(row)
    return text.getvalue()


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def varied_keys(records: Sequence[JobRecord]) -> list[str]:
    """The keys that the jobs vary, in the order of their overrides."""
    return list(dict.fromkeys(key for item in records for key in item.varied))


def best_of(records: Sequence[JobRecord]) -> JobRecord | None:
    """The finished job with the highest MaskAP of its final masks, or by its task's score where none has a MaskAP."""
    done = [item for item in records if item.status == "done"]
    for values in ([item.final.get("MaskAP") for item in done], [item.score for item in done]):
        scored = [(value, item) for value, item in zip(values, done, strict=True) if value is not None]
        scored = [(value, item) for value, item in scored if not math.isnan(value)]
        if scored:
            return max(scored, key=lambda pair: pair[0])[1]
    return None


def conclude(sweep: Path) -> None:
    """Write the table and the heat maps and say how the sweep went and which job was best.

    Args:
        sweep: The sweep's directory.
    """
    records = read_records(sweep)
    if not records:
        logger.warning("no job has left a record in %s: there is no table and no best job", sweep)
        return
    write_table(sweep)
    for name in MAPPED:
        draw_heat_map(records, name, sweep / f"heatmap_{name}.png")
    done = [item for item in records if item.status == "done"]
    logger.info("%d of %d jobs done, table in %s", len(done), len(records), sweep / SWEEP_TABLE)
    for item in records:
        if item.status != "done":
            logger.warning("job %d %s: %s", item.number, item.status, item.error or "start the sweep again")
    if len(done) < len(records):
        logger.warning("the same command with %s does what is missing", shlex.quote(f"hydra.sweep.dir={sweep}"))
    best = best_of(records)
    if best is not None:
        logger.info("%s", best_line(best))


def best_line(best: JobRecord) -> str:
    """Which job was best, and the command that uses its parameters."""
    return f"{best_words(best)}. Use its parameters: {best_command(best)}"


def best_words(best: JobRecord) -> str:
    """Which job was best, what it varied and its figures."""
    what = " ".join(f"{key}={value}" for key, value in best.varied.items()) or "the only one"
    figures = ", ".join(f"{name} {value:.2f}" for name in MAPPED if (value := best.final.get(name)) is not None)
    return f"best: job {best.number} ({what}): {figures or f'score {best.score}'}"


def best_command(best: JobRecord) -> str:
    """The command that uses a job's parameters, with the file that ``ckpt=best`` or ``ckpt=last`` meant."""
    overrides = [
        override("ckpt", best.checkpoint) if best.checkpoint is not None and split(item)[0] == "ckpt" else item
        for item in best.overrides
    ]
    return shlex.join(["python", "run.py", *overrides])


def draw_heat_map(records: Sequence[JobRecord], name: str, path: Path) -> bool:
    """Draw a figure over the two numbers that the jobs vary (sigmas first); over one number, a single row.

    Where jobs differ in something else too (a seed, a model, a third number), the mean is shown.

    Args:
        records: The jobs.
        name: One of `FIGURES`, of the final masks.
        path: The PNG to write.

    Returns:
        Whether there was anything to draw.
    """
    scored = [item for item in records if item.status == "done" and item.final.get(name) is not None]
    keys = [key for key in varied_keys(scored) if all(_number(item, key) is not None for item in scored)]
    keys.sort(key=lambda key: (ORDER.index(key) if key in ORDER else len(ORDER), key == "seed"))
    if not scored or not keys:
        return False
    down, across = (keys[0], keys[1]) if len(keys) > 1 else (None, keys[0])
    rows = sorted({_number(item, down) or 0.0 for item in scored}) if down is not None else [0.0]
    columns = sorted({_number(item, across) or 0.0 for item in scored})
    values = np.full((len(rows), len(columns)), np.nan)
    for (i, row), (j, column) in ((a, b) for a in enumerate(rows) for b in enumerate(columns)):
        cell = [
            float(item.final[name] or 0.0)
            for item in scored
            if (down is None or _number(item, down) == row) and _number(item, across) == column
        ]
        values[i, j] = np.mean(cell) if cell else np.nan
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
    with whole(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return True


def _number(item: JobRecord, key: str | None) -> float | None:
    value = number_or_text(item.varied.get(key or "", ""))
    return None if isinstance(value, str) else float(value)
