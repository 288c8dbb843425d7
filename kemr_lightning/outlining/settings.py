"""Settings of ``task=outline``."""

from __future__ import annotations

from dataclasses import dataclass

from kemr_lightning.core.errors import SettingError


@dataclass(frozen=True)
class OutlineSettings:
    """When an outline is taken for that of a box.

    Attributes:
        loose: Most pixels that a box may be larger than its chromosome, on each side.
        tight: Most pixels that a chromosome may reach out of its box, on each side.
        score: Lowest score of a prediction that is considered.
        iou: Lowest IoU of the box around a predicted mask with the tightened box.
        stained: Lowest fraction of a predicted mask that is stained.

    Raises:
        SettingError: A value is out of range.
    """

    loose: float = 14.0
    tight: float = 3.0
    score: float = 0.3
    iou: float = 0.75
    stained: float = 0.85

    def __post_init__(self) -> None:
        for name in ("loose", "tight"):
            if not getattr(self, name) >= 0:
                raise SettingError(name, getattr(self, name), "is not a number of pixels", "Give 0 or more")
        for name in ("score", "iou", "stained"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingError(name, getattr(self, name), "is not a fraction", "Give a value between 0 and 1")
