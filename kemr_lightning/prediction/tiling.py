"""Images larger than a detector should see at once are predicted in overlapping tiles.

The overlap is larger than the largest chromosome, so that every chromosome lies whole in some tile.
`kemr_lightning.prediction.merging` makes one set of instances from those of all tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from torch import Tensor

from kemr_lightning.core.errors import SettingError
from kemr_lightning.core.instances import Instances
from kemr_lightning.prediction.merging import Window, merge_tiles

SMALLEST = 64
"""Minimum side of a tile in pixels: a chromosome must fit into it."""


@dataclass(frozen=True)
class Tiling:
    """How large images are cut.

    Attributes:
        side: Height and width of a tile in pixels; images no larger than that are not cut.
        overlap: Minimum number of pixels that neighbouring tiles share; more than the longest chromosome.

    Raises:
        SettingError: The side is below `SMALLEST`, or the overlap is not between 0 and half the side.
    """

    side: int = 1536
    overlap: int = 384

    def __post_init__(self) -> None:
        if self.side < SMALLEST:
            raise SettingError("side", self.side, "is too small for a chromosome", f"Give at least {SMALLEST} pixels")
        if not 0 <= self.overlap <= self.side // 2:
            problem = "is negative" if self.overlap < 0 else f"is too much for tiles of {self.side}"
            raise SettingError("overlap", self.overlap, problem, f"Give 0 to {self.side // 2} pixels")

    def seen_at(self, factor: float) -> Tiling:
        """The tiles of an image that the detector sees scaled by a factor, so that it sees tiles of this size."""
        side = max(round(self.side / factor), SMALLEST)
        return replace(self, side=side, overlap=min(round(self.overlap / factor), side // 2))

    def windows(self, image_size: tuple[int, int]) -> list[Window]:
        """Tiles that cover an image of ``(H, W)``, evenly spread, row by row; a single one if it is small."""
        rows, columns = (self._starts(length) for length in image_size)
        height, width = image_size
        return [(x, y, min(x + self.side, width), min(y + self.side, height)) for y in rows for x in columns]

    def _starts(self, length: int) -> list[int]:
        if length <= self.side:
            return [0]
        count = math.ceil((length - self.overlap) / (self.side - self.overlap))
        return [round(index * (length - self.side) / (count - 1)) for index in range(count)]


class TiledInstances(NamedTuple):
    """What was found in an image that may have been cut into tiles.

    Attributes:
        instances: Those of the whole image, in descending order of score.
        cut: ``(N,)`` bool: which are probably cut by the border of a tile; None if the image was not cut into tiles.
        full: The instances of each view, the image or a tile, that reaches the detector's maximum number and was not
            cut further.
    """

    instances: Instances
    cut: Tensor | None
    full: list[Instances]


def predict_tiles(
    predict: Callable[[Tensor], Instances], image: Tensor, tiling: Tiling | None, limit: int | None = None
) -> TiledInstances:
    """Predict an image, in tiles if it is large.

    Args:
        predict: Finds the instances of ``(H, W)`` uint8 pixels, at that size, in descending order of score.
        image: ``(H, W)`` uint8.
        tiling: How to cut; None never does.
        limit: Maximum number of instances that ``predict`` gives; None: no limit. A tile that has as many may hold
            more, so it is cut into smaller ones as long as these are well larger than the overlap.

    Returns:
        The image's instances.
    """
    size = (int(image.shape[0]), int(image.shape[1]))
    views = _Views(predict, image, limit)
    windows = [] if tiling is None else tiling.windows(size)
    if tiling is None or len(windows) < 2:
        instances = predict(image)
        return TiledInstances(instances, None, [instances] if views.is_full(instances) else [])
    tiles = [tile for window in windows for tile in views.tiles(window, tiling)]
    return TiledInstances(*merge_tiles(tiles, size), views.full)


@dataclass
class _Views:
    """Predicts parts of an image, and collects the results that are full; see `predict_tiles` for the fields."""

    predict: Callable[[Tensor], Instances]
    image: Tensor
    limit: int | None
    full: list[Instances] = field(default_factory=list)

    def is_full(self, instances: Instances) -> bool:
        """Whether the detector's maximum number is reached."""
        return self.limit is not None and len(instances) >= self.limit

    def tiles(self, window: Window, tiling: Tiling) -> Iterator[tuple[Window, Instances]]:
        """The window's instances, or those of smaller tiles in it if there are too many."""
        x0, y0, x1, y1 = window
        instances = self.predict(self.image[y0:y1, x0:x1]).to("cpu")
        smaller = (tiling.side + tiling.overlap) // 2
        if self.is_full(instances) and smaller >= max(2 * tiling.overlap, SMALLEST):
            inner = Tiling(smaller, tiling.overlap)
            for left, top, right, bottom in inner.windows((y1 - y0, x1 - x0)):
                yield from self.tiles((x0 + left, y0 + top, x0 + right, y0 + bottom), inner)
            return
        if self.is_full(instances):
            self.full.append(instances)
        yield window, instances
