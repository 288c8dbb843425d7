"""At which size a model sees an image: its own, fitted into a frame, or so that chromosomes have a certain width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.geometry import fitted_size
from kemr_lightning.data.chromosome_width import estimate_width
from kemr_lightning.data.warp import Image

AUTO = "auto"
"""Scale every image by the width of its chromosomes."""

USUAL_WIDTH = 12.0
"""Width in pixels that ``auto`` gives chromosomes."""

SMALLEST, LARGEST = 0.2, 4.0
"""Range of the factor by which an image is scaled for the width of its chromosomes."""


@dataclass(frozen=True)
class InputScale:
    """The rule by which images are scaled before a model sees them; training and prediction both use it.

    Attributes:
        frame: ``(width, height)`` that images are fitted into, or None.
        width: Pixels that chromosomes are to be wide, or None.

    Raises:
        SettingError: Both are given, or the width is not positive.
    """

    frame: tuple[int, int] | None = None
    width: float | None = None

    def __post_init__(self) -> None:
        if self.frame is not None and self.width is not None:
            raise SettingError(
                "scale",
                AUTO,
                "does not go together with resize",
                "Give one of them; resize=null keeps the images' size",
            )
        if self.width is not None and not self.width > 0:
            raise SettingError("scale", self.width, "is not a width", "Give auto or null")

    @classmethod
    def of(cls, resize: Sequence[int] | None = None, scale: str | None = None) -> InputScale:
        """The rule of the settings ``resize`` and ``scale``.

        Args:
            resize: ``(width, height)`` of the frame, or None.
            scale: ``"auto"`` for chromosomes of `USUAL_WIDTH`, or None.

        Raises:
            SettingError: The scale is unknown, or both are given.
        """
        if scale not in (AUTO, None):
            raise SettingError("scale", scale, "is unknown", "Give auto, or null for the images' own scale")
        frame = None if resize is None else (int(resize[0]), int(resize[1]))
        return cls(frame, None if scale is None else USUAL_WIDTH)

    def factor(self, image: Image) -> float:
        """The factor by which the width of chromosomes scales an image ``(H, W)`` uint8; 1 without a width to reach."""
        if self.width is None:
            return 1.0
        found = estimate_width(image)
        return 1.0 if found is None else min(max(self.width / found, SMALLEST), LARGEST)

    def size(self, image_size: tuple[int, int], factor: float = 1.0) -> tuple[int, int]:
        """The size ``(H, W)`` at which a model sees an image of ``image_size``, which `factor` has been found for."""
        if self.width is None:
            return fitted_size(image_size, self.frame)
        return max(1, round(image_size[0] * factor)), max(1, round(image_size[1] * factor))

    def size_of(self, image: Tensor) -> tuple[int, int]:
        """The size ``(H, W)`` at which a model sees an image ``(H, W)`` uint8."""
        size = (int(image.shape[0]), int(image.shape[1]))
        return self.size(size, 1.0 if self.width is None else self.factor(image.cpu().numpy()))

    def plain(self) -> dict[str, Any]:
        """The rule as plain values, as checkpoints store it."""
        return {"input_size": None if self.frame is None else list(self.frame), "input_width": self.width}
