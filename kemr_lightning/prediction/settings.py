"""User settings of a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kemr_lightning.core.errors import SettingError, settings_under
from kemr_lightning.data.annotation_format import SHAPE_TYPES
from kemr_lightning.prediction.tiling import Tiling


@dataclass(frozen=True)
class PredictSettings:
    """How images are cut into tiles and what is written for each; `conf/task/predict.yaml` explains the fields.

    Attributes:
        score: Minimum score, in [0, 1], of an instance in Labelme files, crops and counts.
        expected: Usual number of chromosomes; None: no expected count.
        tile: Side of a tile in pixels; ``"auto"`` leaves it to the model; None: images are never cut.
        overlap: Pixels that neighbouring tiles share.
        beside: Write Labelme files beside the originals.
        overwrite: Replace Labelme files that are not this run's, or have been edited.
        shape_type: ``"polygon"`` or ``"mask"``, Labelme's kinds of shapes.
        min_iou: Minimum IoU, in [0, 1], of a polygon and its mask.
        crops: Cut out each chromosome.
        crop_scale: Crop pixels per image pixel, 0.05 to 20.
        report_side: Longest side in pixels of the report's pictures, at least 64.

    Raises:
        SettingError: A value is out of range.
    """

    score: float = 0.5
    expected: int | None = 46
    tile: int | Literal["auto"] | None = "auto"
    overlap: int = 384
    beside: bool = False
    overwrite: bool = False
    shape_type: str = "polygon"
    min_iou: float = 0.99
    crops: bool = True
    crop_scale: float = 1.0
    report_side: int = 1024

    def __post_init__(self) -> None:
        if not _in_range(self.score, 0, 1):
            raise SettingError("score", self.score, "is not a score", "Give a number from 0 to 1")
        if self.expected is not None and not (_is_whole(self.expected) and self.expected >= 0):
            raise SettingError("expected", self.expected, "is not a count", "Give a whole number, or null for none")
        if self.shape_type not in SHAPE_TYPES:
            raise SettingError("shape_type", self.shape_type, "is unknown", f"Use {' or '.join(SHAPE_TYPES)}")
        if not _in_range(self.min_iou, 0, 1):
            raise SettingError("min_iou", self.min_iou, "is not an IoU", "Give a number from 0 to 1")
        if not _in_range(self.crop_scale, 0.05, 20):
            raise SettingError("crop_scale", self.crop_scale, "is out of range", "Give 0.05 to 20")
        if not _in_range(self.report_side, 64):
            raise SettingError("report_side", self.report_side, "is too small to see anything", "Give at least 64")
        if self.tile not in (None, "auto") and not _is_whole(self.tile):
            raise SettingError("tile", self.tile, "is not a size", "Give auto, a number of pixels, or null")
        if not _is_whole(self.overlap):
            raise SettingError("overlap", self.overlap, "is not a number of pixels", "Give a whole number")
        with settings_under("", side="tile"):
            self.tiling(None)

    def tiling(self, usual: Tiling | None) -> Tiling | None:
        """How images are cut.

        Args:
            usual: Tiles that suit the model, whose side ``tile="auto"`` takes; None: it sees images whole.

        Returns:
            The tiles; None: images are not cut.

        Raises:
            SettingError: The overlap (``"overlap"``) does not fit the tiles, or they are too small (``"side"``).
        """
        if isinstance(self.tile, int):
            return Tiling(self.tile, self.overlap)
        return None if self.tile is None or usual is None else Tiling(usual.side, self.overlap)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _in_range(value: object, low: float, high: float = float("inf")) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
