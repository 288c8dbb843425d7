"""Settings of learning."""

from __future__ import annotations

from dataclasses import dataclass

from kemr_lightning.core.errors import SettingError

PARTS = {"val": ("val",), "train": ("train",), "all": ("val", "train"), "auto": ("val", "train")}
"""The parts of the data set whose images each source uses."""


@dataclass(frozen=True)
class LearnSettings:
    """Settings of learning.

    Attributes:
        source: Which images to learn from: ``val`` (the model was not trained on them), ``train`` (it was), ``all``
            (both), or ``auto``: all if the model's masks of both are alike, else ``val``.
        folds: Number of folds for cross-fitting, >= 2.
        evidence: Whether to learn an evidence network.
        evidence_epochs: Its passes over the examples, >= 1; None chooses by the number of examples.
        evidence_width: Its channels, >= 1.
        crf_steps: Gradient steps per start of the CRF's fit, >= 1.
        iterations: Mean-field updates, >= 1.
        margin: Pixels around a patch that are seen, >= 0.
        seed: Seed of all random choices.

    Raises:
        SettingError: A setting is out of range.
    """

    source: str = "auto"
    folds: int = 3
    evidence: bool = True
    evidence_epochs: int | None = None
    evidence_width: int = 16
    crf_steps: int = 40
    iterations: int = 5
    margin: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.source not in PARTS:
            raise SettingError("source", self.source, "is unknown", f"Use one of {', '.join(PARTS)}")
        least = {"folds": 2, "evidence_width": 1, "crf_steps": 1, "iterations": 1, "margin": 0, "seed": 0}
        if self.evidence_epochs is not None:
            least["evidence_epochs"] = 1
        for name, lowest in least.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise SettingError(name, value, "is out of range", f"Give a whole number, {lowest} or more")
