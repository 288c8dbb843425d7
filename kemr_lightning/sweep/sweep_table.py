"""A sweep at a glance: ``sweep.csv``, a row per job, and ``best.txt``, the best job and its command."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kemr_lightning.core.files import write_csv, write_text
from kemr_lightning.core.overrides import override, split
from kemr_lightning.core.run_directory import SWEEP_BEST, SWEEP_TABLE
from kemr_lightning.metrics.segmentation import HEADLINE
from kemr_lightning.sweep.job_records import JobRecord, read_records, varied_keys

SHOWN = ("MaskAP", "IA")
"""Figures that are reported of the best job and drawn as heat maps."""


def write_table(sweep: Path) -> None:
    """Write ``sweep.csv`` and ``best.txt`` from the jobs' records.

    Jobs of several processes may do so at once. Each reads the records again after it has written, so that the table
    which is written last holds all of them.

    Args:
        sweep: The sweep's directory.
    """
    records = read_records(sweep)
    while True:
        write_csv(sweep / SWEEP_TABLE, *_table(records))
        best = best_of(records)
        if best is not None:
            write_text(sweep / SWEEP_BEST, f"{best_words(best)}\n{best_command(best)}\n")
        else:
            (sweep / SWEEP_BEST).unlink(missing_ok=True)
        now = read_records(sweep)
        if now == records:
            return
        records = now


def _table(records: Sequence[JobRecord]) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns and rows of ``sweep.csv``."""
    keys = varied_keys(records)
    groups = [name for name in ("initial", "refined") if any(name in item.metrics for item in records)]
    further = [name for item in records for figures in item.metrics.values() for name in figures]
    names = list(dict.fromkeys([*HEADLINE, *further]))
    columns = [f"{group}/{name}" for group in groups for name in names]
    columns += [f"gain/{name}" for name in names] if "refined" in groups else []
    rows = []
    for item in records:
        row: dict[str, Any] = {key: item.varied.get(key, "") for key in keys}
        row |= {"job": item.number, "directory": item.directory, "status": item.status, "score": item.score}
        row |= {"seconds": item.seconds, "cpu_seconds": item.cpu_seconds, "error": item.error or ""}
        for group in groups:
            row |= {f"{group}/{name}": value for name, value in item.metrics.get(group, {}).items()}
        if "refined" in item.metrics:
            before, after = item.metrics["initial"], item.metrics["refined"]
            row |= {f"gain/{name}": _difference(after.get(name), before.get(name)) for name in names}
        rows.append(row)
    return ["job", "directory", "status", *keys, *columns, "score", "seconds", "cpu_seconds", "error"], rows


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def best_of(records: Sequence[JobRecord]) -> JobRecord | None:
    """The best of the finished jobs, None if there is none.

    It is the one with the highest MaskAP of its final masks; where no job has a MaskAP, the one with the highest score
    of its task.
    """
    done = [item for item in records if item.status == "done"]
    for values in ([item.final.get("MaskAP") for item in done], [item.score for item in done]):
        scored = [(value, item) for value, item in zip(values, done, strict=True) if value is not None]
        scored = [(value, item) for value, item in scored if not math.isnan(value)]
        if scored:
            return max(scored, key=lambda pair: pair[0])[1]
    return None


def best_words(best: JobRecord) -> str:
    """Which job was best, with what it varied and its figures."""
    what = " ".join(f"{key}={value}" for key, value in best.varied.items()) or "the only one"
    figures = ", ".join(f"{name} {value:.2f}" for name in SHOWN if (value := best.final.get(name)) is not None)
    return f"best: job {best.number} ({what}): {figures or f'score {best.score}'}"


def best_command(best: JobRecord) -> str:
    """The command that uses a job's parameters, with the file that ``ckpt=best`` or ``ckpt=last`` meant."""
    overrides = [
        override("ckpt", best.checkpoint) if best.checkpoint is not None and split(item)[0] == "ckpt" else item
        for item in best.overrides
    ]
    return shlex.join(["python", "run.py", *overrides])
