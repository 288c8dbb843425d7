"""How long each system took to train and takes for an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kemr_lightning.comparison.systems import System


@dataclass(frozen=True)
class Times:
    """Times in seconds, None where nobody took them.

    Attributes:
        training: Wall clock, without validation.
        training_cpu: Processor time of the same.
        model: Median of an image.
        refinement: Median of an image; None for systems that do not refine, too.
        measured: Whether the last two were measured for the comparison, else they are those the run has recorded.
    """

    training: float | None = None
    training_cpu: float | None = None
    model: float | None = None
    refinement: float | None = None
    measured: bool = False

    @property
    def inference(self) -> float | None:
        """Of an image, refinement included."""
        return None if self.model is None else self.model + (self.refinement or 0.0)


def times_of(system: System, measured: tuple[float, float | None] | None = None) -> Times:
    """The times of a row.

    Args:
        system: The row.
        measured: Seconds per image of its run's model and refinement, if they were measured anew.

    Returns:
        Its times. The initial part of a run that refines does not pay for the refinement; that of a run whose
        refinement was not timed has no inference time.
    """
    training: Mapping[str, Any] = system.run.timing.get("training", {})
    test: Mapping[str, Any] = system.run.timing.get("test", {})
    model, refinement = measured or (test.get("seconds_per_image"), test.get("refinement_seconds_per_image"))
    if system.refined and refinement is None:
        model = None
    return Times(
        training.get("seconds"),
        training.get("cpu_seconds"),
        model,
        refinement if system.refined else None,
        measured is not None,
    )
