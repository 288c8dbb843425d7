"""The figures of each system, and intervals of their differences to the baselines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from kemr_lightning.comparison.systems import System
from kemr_lightning.comparison.threshold import Threshold, precision_at
from kemr_lightning.metrics.bootstrap import Difference, Statistic, Weights, paired_bootstrap, statistic
from kemr_lightning.metrics.segmentation import FIGURES, have_masks, headline, instance_accuracy

OWN = "IA*"
"""Instance Accuracy at the system's own threshold."""
ALL_FIGURES = (*FIGURES, OWN)


@dataclass(frozen=True)
class Settings:
    """How figures and intervals are computed.

    Attributes:
        ia_score: Threshold of IA.
        ia_iou: Threshold of IA and of IA*.
        resamples: Of the bootstrap.
        level: Coverage of the intervals, in (0, 1).
        seed: Of the resampling.
    """

    ia_score: float = 0.5
    ia_iou: float = 0.5
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Score:
    """A row's figures.

    Attributes:
        system: The row.
        figures: Those of `ALL_FIGURES` that exist, in percent.
        threshold: Of IA*, or None where it could not be chosen.
        precision: Percent of the predictions from that threshold on that are right.
        differences: Name of a baseline -> figure -> this row less the baseline.
    """

    system: System
    figures: Mapping[str, float]
    threshold: Threshold | None = None
    precision: float = float("nan")
    differences: Mapping[str, Mapping[str, Difference]] = field(default_factory=dict)


class Remembered:
    """A statistic that is computed once for each resample: systems are compared on the same ones."""

    def __init__(self, compute: Statistic) -> None:
        self.compute = compute
        self.known: dict[bytes, float] = {}

    def __call__(self, weights: Weights) -> float:
        """The figure at the images' weights."""
        key = weights.tobytes()
        if key not in self.known:
            self.known[key] = self.compute(weights)
        return self.known[key]


def score_systems(
    systems: Sequence[System],
    baselines: Sequence[System],
    groups: Sequence[Hashable],
    thresholds: Mapping[str, Threshold | None],
    settings: Settings,
) -> list[Score]:
    """Score every system and compare it with the baselines.

    Args:
        systems: Rows, scored on the same images in the same order.
        baselines: Rows among them.
        groups: A key per image; images of one slide are drawn together.
        thresholds: Name of a system -> its own threshold.
        settings: Of the figures and the bootstrap.

    Returns:
        One score per system.
    """
    computed = {row.name: _statistics(row, thresholds.get(row.name), settings) for row in systems}
    scores = []
    for row in systems:
        own = thresholds.get(row.name)
        figures = headline(row.records, settings.ia_score, settings.ia_iou)
        if own is not None:
            figures[OWN] = instance_accuracy(row.records, own.score, settings.ia_iou, have_masks(row.records))
        compared = {
            base.name: {
                name: paired_bootstrap(
                    computed[base.name][name],
                    computed[row.name][name],
                    len(row.records),
                    settings.resamples,
                    settings.seed,
                    settings.level,
                    groups,
                )
                for name in ALL_FIGURES
                if name in computed[base.name] and name in computed[row.name]
            }
            for base in baselines
            if base.name != row.name
        }
        precision = float("nan") if own is None else precision_at(row.records, own.score, settings.ia_iou)
        scores.append(Score(row, figures, own, precision, compared))
    return scores


def _statistics(row: System, own: Threshold | None, settings: Settings) -> dict[str, Remembered]:
    names = [name for name in FIGURES if name != "MaskAP" or have_masks(row.records)]
    found = {name: Remembered(statistic(row.records, name, settings.ia_score, settings.ia_iou)) for name in names}
    if own is not None:
        found[OWN] = Remembered(statistic(row.records, "IA", own.score, settings.ia_iou))
    return found
