"""What refinement gains on annotated images: none, default, learned parameters, evidence, restraint, experiences.

    python benchmarks/refinement_gain.py --checkpoint FILE --knowledge FILE --root DIR --out DIR [--also NAME=FILE ...]

The knowledge has to be learned beforehand (``task=learn``), from other images than those in DIR; ``--also`` compares it
with knowledge that was learned in another way. Writes
``gain.json`` and ``gain.md`` and two plots (numbers only, no picture of an image).
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.progress import track
from torch import Tensor

from kemr_lightning.core import rle
from kemr_lightning.core.contracts import MaskRefiner
from kemr_lightning.core.instances import Instances
from kemr_lightning.data.datamodule import SegmentationDataModule
from kemr_lightning.data.split import group_of
from kemr_lightning.metrics.average_precision import AveragePrecision
from kemr_lightning.metrics.bootstrap import paired_bootstrap, statistic
from kemr_lightning.metrics.matching import match, summarise
from kemr_lightning.metrics.overlap import average_precision_by_overlap
from kemr_lightning.metrics.records import ImageRecord, record
from kemr_lightning.metrics.segmentation import headline
from kemr_lightning.refinement import CRFParams, Refiner
from kemr_lightning.refinement.actions import Action
from kemr_lightning.refinement.knowledge import Knowledge
from kemr_lightning.refinement.knowledge_refiner import KnowledgeRefiner
from kemr_lightning.refinement.restraint import FREE
from kemr_lightning.training.checkpoint import load_module

FIGURES = ("MaskAP", "AP50", "AP75", "AP85", "AP90")
HARM = 0.02


def variants(knowledge: Knowledge, others: dict[str, Knowledge]) -> dict[str, MaskRefiner | None]:
    """The ways to refine that are compared, by name; one action alone, or all of them chosen among by experience."""

    def alone(action: Action) -> KnowledgeRefiner:
        return KnowledgeRefiner(replace(knowledge, actions=(action,), experiences=None))

    table: dict[str, MaskRefiner | None] = {"no refinement": None, "default parameters": Refiner(CRFParams())}
    for evidence, name in ((False, "learned parameters"), (True, "learned + evidence")):
        actions = [action for action in knowledge.actions if action.evidence == evidence]
        if actions:
            table[name] = alone(replace(actions[0], restraint=FREE))
            # Actions are in the order of what they gained, so the last is the most careful.
            table[f"{name}, restrained"] = alone(actions[-1])
    if knowledge.experiences is not None:
        table["learned + experiences"] = KnowledgeRefiner(knowledge)
    return table | {f"learned + experiences, {name}": KnowledgeRefiner(other) for name, other in others.items()}


@torch.no_grad()
def predict(checkpoint: Path, root: Path, views: int) -> tuple[list[tuple[Tensor, Instances, Instances]], list[str]]:
    """Initial instances of every test image of a folder: (image, predicted, annotated), and their groups."""
    module = load_module(checkpoint)
    module.look_in(views)
    data = SegmentationDataModule(root)
    data.label_names = module.label_names
    data.score_all = True
    data.setup("test")
    assert data.test is not None
    cases, groups = [], []
    for index in track(range(len(data.test)), description="initial masks"):
        sample = data.test[index]
        assert sample.instances is not None
        (found,) = module.predict_step([sample], index)
        cases.append((sample.image, found, sample.instances))
        groups.append(group_of(Path(sample.name).stem, data.group_pattern))
    return cases, groups


def levels(precision: AveragePrecision) -> dict[str, float]:
    """The masks' AP at the levels that are reported."""
    return {"MaskAP": precision.at()} | {f"AP{level}": precision.at(level / 100) for level in (75, 85, 90)}


def changes(before: Sequence[ImageRecord], after: Sequence[ImageRecord]) -> tuple[list[float], list[float], list[bool]]:
    """IoU before and after of every pair matched before, and whether its annotation is overlapped."""
    first, second, overlapped = [], [], []
    for old, new in zip(before, after, strict=True):
        matching = match(old, boundaries=False)
        truth = [new.rle(entry) for entry in new.truth]
        for pair in matching.pairs:
            refined = new.rle(new.predictions[pair.prediction])
            first.append(pair.iou)
            second.append(float(rle.iou([refined], [truth[pair.truth]])[0, 0]))
            overlapped.append(matching.overlapped[pair.truth])
    return first, second, overlapped


def evaluate(
    cases: Sequence[tuple[Tensor, Instances, Instances]], groups: Sequence[str], table: dict[str, MaskRefiner | None]
) -> tuple[dict[str, Any], dict[str, tuple[list[float], list[float], list[bool]]]]:
    """All figures of every variant, and the changes of matched pairs."""
    records: dict[str, list[ImageRecord]] = {}
    for name, refine in table.items():
        rows = []
        for number, (image, found, truth) in enumerate(track(cases, description=name), start=1):
            rows.append(record(found if refine is None else refine(image, found), truth, number))
        records[name] = rows
    base = records["no refinement"]
    result: dict[str, Any] = {}
    moved = {}
    for name, rows in records.items():
        summary = summarise([match(item) for item in rows])
        first, second, overlapped = changes(base, rows)
        moved[name] = (first, second, overlapped)
        won, crossing = np.array(second) - np.array(first), np.array(overlapped, dtype=bool)
        split = average_precision_by_overlap(rows)
        result[name] = {
            **headline(rows),
            **{figure: statistic(rows, figure)(np.ones(len(rows), dtype=np.int64)) for figure in FIGURES},
            "mean_iou": summary["mean_iou"],
            "boundary_f": summary["boundary_f"],
            **{kind: {**summary[kind], **levels(split[kind])} for kind in split},
            "matched": len(won),
            "gained": 100 * float((won > HARM).mean()),
            "lost": 100 * float((won < -HARM).mean()),
            "mean_gain": {
                "all": 100 * float(won.mean()),
                "overlapped": 100 * float(won[crossing].mean()) if crossing.any() else None,
                "isolated": 100 * float(won[~crossing].mean()) if (~crossing).any() else None,
            },
        }
        if name != "no refinement":
            result[name]["difference"] = {
                figure: asdict(
                    paired_bootstrap(statistic(base, figure), statistic(rows, figure), len(rows), groups=groups)
                )
                for figure in ("MaskAP", "AP75")
            }
    return result, moved


def markdown(result: dict[str, Any]) -> str:
    """The result as three tables: all annotations, changes of matched masks, overlapped and isolated annotations."""
    lines = [
        "| refinement | MaskAP | AP50 | AP75 | AP85 | AP90 | mean IoU | boundary F 1 px | 2 px | MaskAP gain (95 %) |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result.items():
        figures = " | ".join(f"{row[figure]:.2f}" for figure in FIGURES)
        edge = " | ".join(f"{value:.2f}" for value in row["boundary_f"].values())
        gain = (
            ""
            if "difference" not in row
            else "{difference:+.2f} [{low:+.2f}, {high:+.2f}]".format(**row["difference"]["MaskAP"])
        )
        lines.append(f"| {name} | {figures} | {row['mean_iou']:.2f} | {edge} | {gain} |")
    lines += [
        "",
        "| refinement | gain > 0.02 IoU | lose > 0.02 | mean IoU gained x 100: all | overlapped | isolated |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result.items():
        if name == "no refinement":
            continue
        gains = " | ".join("-" if v is None else f"{v:+.2f}" for v in row["mean_gain"].values())
        lines.append(f"| {name} | {row['gained']:.1f} % | {row['lost']:.1f} % | {gains} |")
    lines += [
        "",
        "| refinement, annotations | MaskAP | AP75 | AP85 | AP90 | found | mean IoU | boundary F 1 px | 2 px |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in ("overlapped", "isolated"):
        for name, row in result.items():
            part = row[kind]
            values = [part[figure] for figure in ("MaskAP", "AP75", "AP85", "AP90", "found", "mean_iou")]
            cells = " | ".join(f"{value:.2f}" for value in [*values, *part["boundary_f"].values()])
            lines.append(f"| {name}, {part['annotations']} {kind} | {cells} |")
    return "\n".join(lines) + "\n"


def plot(moved: dict[str, tuple[list[float], list[float], list[bool]]], path: Path) -> None:
    """IoU before against after per instance, and the sorted changes."""
    names = [name for name in moved if name != "no refinement"]
    figure = Figure(figsize=(3.6 * len(names), 6.4), layout="constrained")
    axes = figure.subplots(2, len(names), squeeze=False)
    for column, name in enumerate(names):
        first, second, overlapped = (np.array(values) for values in moved[name])
        for split, colour, label in ((False, "#0072B2", "isolated"), (True, "#D55E00", "overlapped")):
            where = overlapped.astype(bool) == split
            axes[0, column].plot(first[where], second[where], ".", ms=3, color=colour, label=label)
        axes[0, column].plot([0.5, 1], [0.5, 1], "k-", lw=0.6)
        axes[0, column].set(title=name, xlabel="IoU before", ylabel="IoU after")
        axes[0, column].legend(frameon=False)
        won = np.sort(second - first)
        axes[1, column].plot(np.linspace(0, 100, len(won)), won, color="k")
        axes[1, column].axhspan(-HARM, HARM, color="0.85")
        axes[1, column].set(xlabel="% of matched instances", ylabel="IoU gained", ylim=(-0.2, 0.2))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Parse the command line, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--knowledge", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--also", nargs="*", default=[], metavar="NAME=FILE", help="other knowledge, by what it is")
    parser.add_argument("--views", type=int, default=1, help="turned looks at an image that are averaged")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    knowledge = Knowledge.load(options.knowledge)
    knowledge.warn_unless_from(options.checkpoint)
    others = {name: Knowledge.load(file) for name, file in (each.split("=", 1) for each in options.also)}
    cases, groups = predict(options.checkpoint, options.root, options.views)
    result, moved = evaluate(cases, groups, variants(knowledge, others))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gain.json").write_text(json.dumps(result, indent=1))
    (options.out / "gain.md").write_text(markdown(result))
    plot({name: rows for name, rows in moved.items() if "experiences, " not in name}, options.out / "gain.png")
    print(markdown(result))
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
