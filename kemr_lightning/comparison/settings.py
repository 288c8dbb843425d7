"""The settings of a comparison, checked before anything is trained or read."""

from __future__ import annotations

from dataclasses import dataclass

from kemr_lightning.core.errors import SettingError
from kemr_lightning.metrics.average_precision import MAX_DETECTIONS

FROM_KEMR = ("auto", "always", "never")


@dataclass(frozen=True)
class CompareSettings:
    """How systems are compared.

    Attributes:
        cascade_from_kemr: Whether a KEMR-Net run before its refinement is the row of the cascade: ``"auto"``: if no
            other run is; ``"always"``; ``"never"``.
        resamples: Number of resamples of the bootstrap; 0 computes no intervals.
        level: Coverage of its intervals, in (0, 1).
        crops: Number of wins, and of losses, in each picture; 0 draws none.
        time_images: Number of test images on which inference is timed anew; 0 keeps the times that the runs recorded.
        ia_score: Minimum score of a prediction that counts for Instance Accuracy, in [0, 1].
        ia_iou: Minimum mask IoU of a prediction with its annotation, for IA and IA*, in [0, 1].
        max_detections: Of each image and class so many detections count for AP, at least 1.
        seed: Seed of the bootstrap.

    Raises:
        SettingError: A value is out of range.
    """

    cascade_from_kemr: str = "auto"
    resamples: int = 2000
    level: float = 0.95
    crops: int = 4
    time_images: int = 0
    ia_score: float = 0.5
    ia_iou: float = 0.5
    max_detections: int = MAX_DETECTIONS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.cascade_from_kemr not in FROM_KEMR:
            raise SettingError(
                "cascade_from_kemr", self.cascade_from_kemr, "is unknown", f"Use one of {', '.join(FROM_KEMR)}"
            )
        for name in ("resamples", "crops", "time_images"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise SettingError(name, value, "is not possible", "Give a whole number, 0 or more")
        if not isinstance(self.level, int | float) or not 0 < self.level < 1:
            raise SettingError("level", self.level, "is not possible", "Give a number between 0 and 1, such as 0.95")
