"""What an annotation format can do: read a data set, find the annotations of images to predict, write, diagnose."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.checks import check_fraction
from kemr_lightning.data.record import Record
from kemr_lightning.data.survey import Fault, Survey, SurveyedImage, bare_image, images_besides

log = logging.getLogger(__name__)

SHAPE_TYPES = ("polygon", "mask")


class Source(Protocol):
    """The annotated images of a folder, part by part."""

    parts: list[str]
    """``train``, ``val`` and ``test`` as far as they exist, else ``["all"]``."""

    def read(self, part: str) -> list[Record]:
        """The records of one part, sorted by name.

        Raises:
            UserError: A file is broken; the first few are named.
        """


@dataclass(frozen=True)
class WriteOptions:
    """How masks are written.

    Attributes:
        shape_type: ``"polygon"``: outlines stay outlines, and bitmaps become outlines where the format prefers them.
            ``"mask"``: everything becomes a bitmap.
        min_iou: Minimum IoU of an outline with each part of the bitmap that it stands for; 1 follows the pixels' edges.
    """

    shape_type: str = "polygon"
    min_iou: float = 0.99

    def __post_init__(self) -> None:
        if self.shape_type not in SHAPE_TYPES:
            raise SettingError("shape_type", self.shape_type, "is unknown", "Use polygon or mask")
        check_fraction("min_iou", self.min_iou)


class Writer(ABC):
    """Writes the annotations of a data set. The images are in the folder already."""

    keeps_bitmaps = True
    """Whether bitmaps are written pixel for pixel, not as outlines."""

    boxes_become_masks = False
    """Whether annotations with a box and no mask are written as shapes that readers take for masks."""

    @abstractmethod
    def add(
        self,
        part: str,
        image: Path,
        annotations: Sequence[Annotation],
        size: tuple[int, int],
        group: str | None = None,
    ) -> None:
        """Take the annotations of one image.

        Args:
            part: ``"train"``, ``"val"``, ``"test"`` or ``"all"``.
            image: The image file, in the part's folder.
            annotations: Each covers some of the image; labels are among the writer's names.
            size: ``(H, W)`` of the image.
            group: What must stay together with this image in a split, if that is known.
        """

    @abstractmethod
    def finish(self) -> None:
        """Write what is only known after the last image."""


def _nothing(_: Path) -> bool:
    return False


class Format(ABC):
    """An annotation format. Only `source` has to be defined; the other methods have defaults.

    Attributes:
        name: Its name in `kemr_lightning.data.formats.FORMATS`.
        config: Name of its file in ``conf/data``, or None if it has none.
    """

    name: str
    config: str | None = None

    @abstractmethod
    def source(self, root: Path) -> Source:
        """Find the annotated images of a folder.

        Args:
            root: The data root: names are relative to it, and images may not lie outside it.

        Raises:
            UserError: The folder has no annotations of this format.
        """

    def inputs(
        self,
        root: Path,
        apart: Callable[[Path], bool] = _nothing,  # noqa: ARG002
        written: Callable[[Path], bool] = _nothing,  # noqa: ARG002
    ) -> list[Record]:
        """The annotations of images to predict. What cannot be read is logged and left out.

        Args:
            root: The folder of the images.
            apart: Whether a file lies in a folder that is left out.
            written: Whether a file is an output of the prediction run that is resumed, and so not an annotation.

        Returns:
            Records of annotated image files, and of images that only exist inside an annotation file; the latter may
            have no annotations.
        """
        records: list[Record] = []
        try:
            source = self.source(root)
            for part in source.parts:
                records += source.read(part)
        except UserError as error:
            log.warning("%s The images are predicted without annotations.", _sentence(error))
        return records

    def diagnose(self, root: Path) -> Survey:
        """Read everything annotated in a folder. What cannot be read becomes a fault.

        Args:
            root: The data root.
        """
        try:
            source = self.source(root)
        except UserError as error:
            return Survey(faults=[Fault("broken_file", "", str(error))])
        survey = Survey(parts=list(source.parts))
        used: set[Path] = set()
        for part in source.parts:
            try:
                records = source.read(part)
            except UserError as error:
                survey.faults.append(Fault("broken_file", "" if part == "all" else part, str(error)))
                continue
            used |= {record.path for record in records}
            survey.images += [SurveyedImage(record, part, record.load) for record in records]
            survey.faults += [
                Fault("empty", record.name, "it has no instance") for record in records if not record.annotations
            ]
        for path in images_besides(root, used):
            name = path.relative_to(root).as_posix()
            survey.faults.append(Fault("unannotated", name, "no file annotates it"))
            survey.bare.append(bare_image(root, path, survey.parts))
        return survey

    def writer(self, folder: Path, label_names: Sequence[str], options: WriteOptions) -> Writer | None:  # noqa: ARG002
        """A writer of a data set in this format, or None if it can only be read.

        Args:
            folder: The new data root.
            label_names: All class names of the data set, in the order of their numbers.
            options: How masks are written.
        """
        return None


def _sentence(error: UserError) -> str:
    """An error's message with its full stop."""
    message = str(error)
    return message if message.endswith(".") else f"{message}."
