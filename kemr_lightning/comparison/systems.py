"""The rows of the table: which run stands for which system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kemr_lightning.comparison.runs import FinishedRun
from kemr_lightning.core.errors import UserError
from kemr_lightning.metrics.records import ImageRecord

MASK_RCNN, BLENDMASK, CASCADE, KEMR = "mask_rcnn", "blendmask", "cascade", "kemr"
REFINED = "_crf"
"""Suffix of the kind of a detector with refined masks; a cascade with refined masks is `KEMR`."""
NAMES = {
    MASK_RCNN: "Mask R-CNN",
    f"{MASK_RCNN}{REFINED}": "Mask R-CNN + CRF",
    BLENDMASK: "BlendMask",
    f"{BLENDMASK}{REFINED}": "BlendMask + CRF",
    CASCADE: "Cascade Mask R-CNN",
    KEMR: "KEMR-Net",
}
"""Names of the kinds of systems, in the order of the table."""
BASELINES = (MASK_RCNN, CASCADE)


@dataclass(frozen=True)
class System:
    """A row.

    Attributes:
        kind: A key of `NAMES`, or for a detector that is not among them its own kind.
        name: What it is called; unique in a table.
        run: The run that its figures come from.
        refined: Whether it is the run's refined instances, else its initial ones.
        borrowed: Whether the row shows the unrefined masks of a run that refines.
    """

    kind: str
    name: str
    run: FinishedRun
    refined: bool
    borrowed: bool = False

    @property
    def records(self) -> list[ImageRecord]:
        """One per image, by id."""
        return self.run.final if self.refined else self.run.initial


def systems_of(runs: Sequence[FinishedRun], cascade_from_kemr: str = "auto") -> list[System]:
    """The rows that runs give.

    A cascade that refines is KEMR-Net, one that does not is Cascade Mask R-CNN. A KEMR-Net before refinement is a
    Cascade Mask R-CNN as well, so one run may give both rows.

    Args:
        runs: At least one.
        cascade_from_kemr: ``"auto"``: KEMR-Net runs give the row of the cascade if no run of a cascade does;
            ``"always"``, ``"never"``.

    Returns:
        Rows in the order of `NAMES`, other kinds after them by name; rows of one kind in the order of the runs.

    Raises:
        UserError: Fewer than two rows, or two with one name.
    """
    rows = [_row(run) for run in runs]
    wanted = cascade_from_kemr == "always" or (cascade_from_kemr == "auto" and all(r.kind != CASCADE for r in rows))
    given = set()
    for row in [row for row in rows if row.kind == KEMR and wanted]:
        # Two tests of one checkpoint refine differently, and are the same before that.
        if row.run.checkpoint.resolve() not in given:
            given.add(row.run.checkpoint.resolve())
            rows.append(System(CASCADE, NAMES[CASCADE], row.run, refined=False, borrowed=True))
    if len(rows) < 2:
        raise UserError("there is one system and nothing to compare it with. Name more experiments or runs")
    return _unique(sorted(rows, key=_place))


def _row(run: FinishedRun) -> System:
    """The row of a run's final masks."""
    if not run.refined:
        return System(run.kind, NAMES.get(run.kind, run.kind), run, refined=False)
    kind = KEMR if run.kind == CASCADE else f"{run.kind}{REFINED}"
    return System(kind, NAMES.get(kind, f"{run.kind} + CRF"), run, refined=True)


def _place(row: System) -> tuple[int, str]:
    """What rows are sorted by."""
    order = list(NAMES)
    return (order.index(row.kind), "") if row.kind in NAMES else (len(order), row.kind)


def _unique(rows: Sequence[System]) -> list[System]:
    """Rows of one name distinguished by their seeds, or else by their directories."""
    counts = Counter(row.name for row in rows)
    named = []
    for row in rows:
        alike = [other for other in rows if other.name == row.name]
        seeds = {other.run.training.get("seed") for other in alike}
        if counts[row.name] == 1:
            named.append(row)
        elif len(seeds) == len(alike):
            named.append(replace(row, name=f"{row.name} (seed {row.run.training.get('seed')})"))
        else:
            named.append(replace(row, name=f"{row.name} ({row.run.directory.name})"))
    if len({row.name for row in named}) < len(named):
        raise UserError("two runs have one name. Name every directory once, and runs of one system differently")
    return named


def baselines_of(systems: Sequence[System]) -> list[System]:
    """The first row of each of `BASELINES`, as far as there are any."""
    found = [next((row for row in systems if row.kind == kind), None) for kind in BASELINES]
    return [row for row in found if row is not None]
