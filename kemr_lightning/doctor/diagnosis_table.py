"""The findings as a table for the terminal and as JSON."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kemr_lightning.core.files import write_json
from kemr_lightning.core.run_directory import DOCTOR, DOCTOR_PAGE
from kemr_lightning.doctor import Diagnosis, Finding

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}

LABELS_LISTED = 30


def diagnosis_document(diagnosis: Diagnosis) -> dict[str, Any]:
    """The content of ``doctor.json``: everything but the pictures.

    Sizes are quantiles (5, 25, 50, 75, 95 %) in pixels; boxes are ``[x0, y0, x1, y1]``.
    """
    tally = Counter(finding.kind for finding in diagnosis.findings)
    parts: dict[str, dict[str, int]] = {}
    for image in diagnosis.images:
        part = parts.setdefault(image.part, {"images": 0, "instances": 0})
        part["images"] += 1
        part["instances"] += len(image.labels)
    return {
        "root": str(diagnosis.root),
        "format": diagnosis.data_format,
        "images": len(diagnosis.images),
        "instances": sum(len(image.labels) for image in diagnosis.images),
        "parts": parts,
        **{f"{severity}s": count for severity, count in diagnosis.counts().items()},
        "kinds": {
            name: {"severity": kind.severity, "title": kind.title, "advice": kind.advice, "count": tally[name]}
            for name, kind in diagnosis.kinds.items()
            if tally[name]
        },
        "labels": {
            label: {
                "count": count,
                "becomes": diagnosis.label_names.get(label),
                "mapped": label in diagnosis.label_names,
            }
            for label, count in diagnosis.labels.items()
        },
        "sizes": diagnosis.sizes,
        "anchors": None if diagnosis.anchors is None else dataclasses.asdict(diagnosis.anchors),
        "counts": {image.name: len(image.labels) for image in diagnosis.images},
        "findings": [_finding(finding) for finding in diagnosis.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "file": finding.file,
        "message": finding.message,
        "boxes": [[round(value, 2) for value in place] for place in finding.boxes],
        "others": list(finding.others),
    }


def write_diagnosis(path: Path, diagnosis: Diagnosis) -> None:
    """Write ``doctor.json``."""
    write_json(path, diagnosis_document(diagnosis), indent=1)


def print_diagnosis(diagnosis: Diagnosis, directory: Path, listed: int = 3, console: Console | None = None) -> None:
    """Print what was found.

    Args:
        diagnosis: What `examine` has found.
        directory: The run directory, which has the complete findings.
        listed: How many findings of each kind are named.
        console: Where to print; the standard output by default.
    """
    console = console or Console(highlight=False)
    document = diagnosis_document(diagnosis)
    parts = ", ".join(f"{name} {part['images']}" for name, part in document["parts"].items() if name != "all")
    title = f"{diagnosis.root}: {document['images']} annotated images{f' ({parts})' if parts else ''}, "
    title += f"{document['instances']} chromosomes"
    console.print(Group(Text(), Text(title, style="bold"), Text(), findings_table(diagnosis, listed)))
    console.print(labels_table(diagnosis))
    for line in size_lines(diagnosis):
        console.print(Text(line))
    counts = diagnosis.counts()
    verdict = ", ".join(f"{count} {name}{'' if count == 1 else 's'}" for name, count in counts.items())
    console.print(Text(f"\n{verdict}", style=STYLES["error"] if counts["error"] else "bold"))
    console.print(Text(f"everything, with pictures: {directory / DOCTOR_PAGE}; for programs: {DOCTOR} beside it"))


def findings_table(diagnosis: Diagnosis, listed: int) -> Table:
    """A row for each kind that occurs, with its first few findings."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("count", justify="right")
    table.add_column("what, and what to do")
    tally = Counter(finding.kind for finding in diagnosis.findings)
    for name in dict.fromkeys(finding.kind for finding in diagnosis.findings):
        kind = diagnosis.kinds[name]
        lines = [f"[bold]{escape(kind.title)}[/bold]. {escape(kind.advice)}"]
        some = [finding for finding in diagnosis.findings if finding.kind == name]
        lines += [f"[dim]{escape(line_of(finding))}[/dim]" for finding in some[:listed]]
        lines += [f"[dim]... {len(some) - listed} more[/dim]"] if len(some) > listed > 0 else []
        table.add_row(f"[{STYLES[kind.severity]}]{kind.severity}[/]", str(tally[name]), "\n".join(lines))
    if not diagnosis.findings:
        table.add_row("", "0", "nothing found")
    return table


def line_of(finding: Finding) -> str:
    """A finding in one line."""
    return f"{finding.file}: {finding.message}" if finding.file else finding.message


def labels_table(diagnosis: Diagnosis) -> Table:
    """The labels, how often each occurs and what the label map makes of it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("label")
    table.add_column("count", justify="right")
    table.add_column("becomes")
    for label, count in list(diagnosis.labels.items())[:LABELS_LISTED]:
        table.add_row(escape(label), str(count), escape(becomes(diagnosis, label)))
    if len(diagnosis.labels) > LABELS_LISTED:
        table.add_row(f"... {len(diagnosis.labels) - LABELS_LISTED} more", "", "")
    return table


def becomes(diagnosis: Diagnosis, label: str) -> str:
    """What the label map makes of a label, in words."""
    if label not in diagnosis.label_names:
        return f"(not in {diagnosis.names.label_map})"
    name = diagnosis.label_names[label]
    return "(dropped)" if name is None else name


def size_lines(diagnosis: Diagnosis) -> list[str]:
    """Sizes and anchors in words."""
    lines = []
    words = {"lengths": "length, px", "widths": "width, px", "areas": "area, px²"}
    for key, values in diagnosis.sizes.items():
        low, _, middle, _, high = values
        lines.append(f"{words[key]}: median {middle:.0f}, 5-95 % {low:.0f}-{high:.0f}")
    fit = diagnosis.anchors
    if fit is not None:
        lines.append(
            f"anchors {fit.sizes}, ratios {fit.ratios}: median best IoU {fit.median_iou:.2f}, "
            f"{fit.below:.1%} of the boxes below 0.5"
        )
    return lines
