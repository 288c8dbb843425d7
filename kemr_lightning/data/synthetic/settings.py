"""What synthetic metaphases are to look like, and what is known about one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.checks import check_count, check_fraction, check_size
from kemr_lightning.data.synthetic.shape import Footprint, Shape

LOOKS = ("gband", "fluorescence")
"""Dark chromosomes on a bright ground, and bright ones on a dark ground."""

CLINICAL_LOOKS = ("gband", "qband", "dapi")
"""Stains of clinical scenes; there, ``fluorescence`` is either of the last two."""

SCENES = ("plain", "clinical")
"""Chromosomes on a nearly clean slide, and the crowded slides of clinical practice."""

PLAIN_OVERLAP = 0.35
"""Fraction of the chromosomes of plain scenes that are laid across or against others, unless given."""

MIXED = "mixed"
"""Either look, by chance."""

_SMALLEST = 64
"""Shortest side of an image, pixels."""

_WIDEST = 100.0
"""Widest chromosome where images have no common size, pixels."""


def default_width(image_size: tuple[int, int]) -> float:
    """Typical chromosome width for an image of ``(H, W)``: 22 pixels at 1280x1024, 12 at 768x576, 9 at 320x256."""
    diagonal = float(np.hypot(*image_size))
    return max(12 * diagonal / 960, 9.0) if diagonal < 960 else 12 + 10 * (diagonal - 960) / 679


def default_count(image_size: tuple[int, int], width: float) -> int:
    """46 chromosomes, a whole cell, if an image of ``(H, W)`` has room for them at that width; else as many as fit."""
    height, columns = image_size
    return int(np.clip(height * columns / (width * width * 58), 1, 46))


@dataclass(frozen=True)
class MetaphaseSettings:
    """What metaphases are to look like.

    Attributes:
        size: ``(width, height)`` of the image in pixels, at least 64 each; None, in clinical scenes only, to draw it
            for each image.
        count: Number of chromosomes, or a range ``(lowest, highest)`` to draw it from; None for a whole cell of 46, or
            fewer if the image is too small for one. Some clinical cells then have one or two more or fewer.
        look: ``"gband"`` (dark on bright), ``"fluorescence"`` (bright on dark) or ``"mixed"`` (any, by chance).
            Clinical scenes know two kinds of fluorescence, ``"qband"`` and ``"dapi"``.
        overlap: Fraction of the chromosomes that are laid across or against others, in [0, 1]; None for 0.35 in plain
            scenes, and for the range of real cells in clinical ones.
        width: Typical width of a chromosome in pixels, or a range ``(lowest, highest)`` to draw it from on a log
            axis; None to derive it from the image's size.
        scene: ``"plain"`` for chromosomes on a nearly clean slide, ``"clinical"`` for crowded cells among nuclei and
            dirt.

    Raises:
        SettingError: A value is out of range.
    """

    size: Sequence[int] | None = (768, 576)
    count: int | Sequence[int] | None = None
    look: str = MIXED
    overlap: float | None = None
    width: float | Sequence[float] | None = None
    scene: str = "plain"

    def __post_init__(self) -> None:
        if self.scene not in SCENES:
            raise SettingError("scene", self.scene, "is unknown", f"Use one of {', '.join(SCENES)}")
        looks = (*dict.fromkeys((*LOOKS, *(CLINICAL_LOOKS if self.scene == "clinical" else ()))), MIXED)
        if self.look not in looks:
            problem = "needs scene=clinical" if self.look in CLINICAL_LOOKS else "is unknown"
            raise SettingError("look", self.look, problem, f"Use one of {', '.join(looks)}")
        if self.size is not None:
            check_size("size", self.size, "[width, height]", _SMALLEST)
        elif self.scene == "plain":
            raise SettingError("size", None, "is missing", "Give [width, height] in pixels")
        if self.overlap is not None:
            check_fraction("overlap", self.overlap)
        widest = _WIDEST if self.size is None else min(self.size) / 4
        if self.width is not None:
            widths = self.width if isinstance(self.width, Sequence) else [self.width]
            if not widths or not all(isinstance(width, Real) for width in widths):
                raise SettingError("width", self.width, "is no number of pixels", "Give, say, 12 or [8, 30]")
            if not 4 <= widths[0] <= widths[-1] <= widest:
                raise SettingError("width", self.width, "is out of range", f"Give 4 to {widest:g} pixels")
        if self.count is not None:
            check_count("count", self.count)

    @property
    def image_size(self) -> tuple[int, int]:
        """``(H, W)`` of the image, where it is given.

        Raises:
            ValueError: The size is drawn for each image.
        """
        if self.size is None:
            raise ValueError("images have no common size")
        return int(self.size[1]), int(self.size[0])

    @property
    def width_range(self) -> tuple[float, float] | None:
        """Lowest and highest typical width in pixels; None for the default."""
        if self.width is None:
            return None
        if isinstance(self.width, Sequence):
            return float(self.width[0]), float(self.width[-1])
        return float(self.width), float(self.width)

    def draw_width(self, rng: np.random.Generator) -> float:
        """The typical width of a metaphase's chromosomes, pixels; without a range nothing is drawn."""
        if self.width_range is None:
            return default_width(self.image_size)
        lowest, highest = self.width_range
        return lowest if lowest == highest else float(np.exp(rng.uniform(np.log(lowest), np.log(highest))))

    @property
    def count_range(self) -> tuple[int, int] | None:
        """Lowest and highest number of chromosomes; None for the default."""
        if self.count is None:
            return None
        if isinstance(self.count, Sequence):
            return int(self.count[0]), int(self.count[-1])
        return int(self.count), int(self.count)


@dataclass(frozen=True)
class Metaphase:
    """An image and what is on it.

    Attributes:
        image: ``(H, W)`` uint8.
        names: Name of each chromosome, ``"1"`` to ``"22"``, ``"X"`` or ``"Y"``.
        shapes: Outline of each chromosome.
        footprints: Pixels that each chromosome covers.
        width: Nominal width of a chromosome, pixels.
    """

    image: NDArray[np.uint8]
    names: list[str]
    shapes: list[Shape]
    footprints: list[Footprint]
    width: float

    @property
    def image_size(self) -> tuple[int, int]:
        """``(H, W)`` of the image."""
        return self.image.shape[0], self.image.shape[1]
