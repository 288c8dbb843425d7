"""One image of a data set, before it is decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.image import IntensityImage, Reading, with_reading


class MissingImageError(UserError):
    """The image of an annotation file is missing."""


@dataclass(frozen=True)
class Record:
    """One image with its annotations, not decoded yet.

    Attributes:
        name: Path relative to the data root.
        path: The image file, or the annotation file that embeds the image.
        load: Decodes the image. Raises a `UserError` if it is damaged or does not fit its annotations, and a
            `MissingImageError` if it is missing. If images are to be read otherwise than by default, it gets the
            argument ``reading``, a `kemr_lightning.data.image.Reading`.
        annotations: None if the image is not annotated.
        group: Images of one group stay together in a split. None: the name determines the group.
        stated_size: ``(H, W)`` of the image according to its annotation file, or None.
        annotated_by: The annotation file if it is about this image alone, else None.
        embedded: Returns the bytes of the image file that ``path`` embeds; None if ``path`` is the image itself.
    """

    name: str
    path: Path
    load: Callable[..., IntensityImage]
    annotations: tuple[Annotation, ...] | None = None
    group: str | None = None
    stated_size: tuple[int, int] | None = None
    annotated_by: Path | None = None
    embedded: Callable[[], bytes] | None = None

    def read_as(self, reading: Reading) -> Record:
        """The same record, with the image read in another way."""
        load = with_reading(self.load, reading)
        return self if load is self.load else replace(self, load=load)
