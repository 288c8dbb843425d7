"""The Labelme file of a predicted image and the image beside it, written so that nobody's work is lost."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from kemr_lightning.core.digests import data_digest, file_digest
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import atomic_write, write_text
from kemr_lightning.core.instances import Instances
from kemr_lightning.core.run_directory import LABELME
from kemr_lightning.data.image import read_image
from kemr_lightning.data.labelme import embedded_image, labelme_text, parse_labelme
from kemr_lightning.prediction.image_state import StateFolder
from kemr_lightning.prediction.inputs import Input
from kemr_lightning.prediction.review import Review
from kemr_lightning.prediction.settings import PredictSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelmeOutput:
    """What was written for an image.

    Attributes:
        file: The Labelme file.
        image: The image that it is about.
        digest: SHA-256 of the Labelme file; None if it was not written, because a file in its place was kept.
    """

    file: Path
    image: Path
    digest: str | None


class LabelmeFileWriter:
    """Writes Labelme files into the run directory, or beside the originals.

    An existing Labelme file is replaced only if it is as this run directory's runs have written it, unless
    ``settings.overwrite``: any other was there before, or a person has changed it. An existing image is replaced only
    by one with the same pixels, or if these runs have written it.

    Args:
        directory: The run directory.
        root: The data root.
        states: The run directory's states.
        label_names: Names of labels 1, 2, ...
        settings: The prediction's settings.
    """

    def __init__(
        self, directory: Path, root: Path, states: StateFolder, label_names: Sequence[str], settings: PredictSettings
    ) -> None:
        self.folder = root if settings.beside else directory / LABELME
        self.states = states
        self.label_names = list(label_names)
        self.settings = settings

    def write(self, item: Input, pixels: npt.NDArray[np.uint8], instances: Instances, review: Review) -> LabelmeOutput:
        """Write the files of an image, as far as nobody's work is in the way.

        Args:
            item: Where the image came from.
            pixels: ``(H, W)`` uint8.
            instances: Those to write, with masks.
            review: What is remarkable about them; its reasons and marks become flags.

        Returns:
            Where the files are.

        Raises:
            UserError: A file cannot be written.
        """
        file = self.folder / f"{item.stem}.json"
        try:
            return self._write(item, pixels, instances, review, file)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot write {file}: {reason}. Free space or choose another place.") from error

    def _write(
        self, item: Input, pixels: npt.NDArray[np.uint8], instances: Instances, review: Review, file: Path
    ) -> LabelmeOutput:
        image, embedded = self._image(item, pixels, file)
        text = labelme_text(
            file,
            image,
            instances,
            self.label_names,
            shape_type=self.settings.shape_type,
            min_iou=self.settings.min_iou,
            marks=[dict.fromkeys(sorted(marks), True) for marks in review.marks],
            flags=dict.fromkeys(review.reasons, True),
            embedded=embedded,
        )
        digest = data_digest(text.encode())
        beside = self.settings.beside
        there = beside and (item.is_file or item.path == file)  # the image is the input itself
        if not self._may_write(item, file, digest):
            if not beside and not image.exists():
                self._place_image(item, pixels, image)
            return LabelmeOutput(file, image, None)
        if not there and not self._place_image(item, pixels, image):
            logger.warning("%s is not this run's and stays: no Labelme file for %s. Move it away.", image, item.name)
            return LabelmeOutput(file, image, None)
        self.states.announce(item.stem, item.source, file, digest)
        write_text(file, text)
        return LabelmeOutput(file, image, digest)

    def _image(self, item: Input, pixels: npt.NDArray[np.uint8], file: Path) -> tuple[Path, bytes | None]:
        """The image that a Labelme file is about, and the picture that has to be embedded in the file, if any."""
        if not self.settings.beside:
            return self.folder / item.image_name, None
        if item.path == file:
            # The only copy of the image is in the file to be replaced.
            stated = (parse_labelme(file).image_path or "").replace("\\", "/")
            return file.with_name(Path(stated).name or Path(item.image_name).name), embedded_image(file)
        if item.is_file:
            return item.path, None if item.is_copied else _png(pixels)
        return self.folder / item.image_name, None

    def _may_write(self, item: Input, file: Path, digest: str) -> bool:
        """Whether a Labelme file may be written: there is none, or it is as this program left it or would write it."""
        if self.settings.overwrite or not file.exists():
            return True
        return self.states.wrote(item.stem, file) or file_digest(file) == digest

    def _place_image(self, item: Input, pixels: npt.NDArray[np.uint8], image: Path) -> bool:
        """Put an image beside its Labelme file; False if another one is there, which stays."""
        data = b"" if item.is_copied else _png(pixels)
        digest = file_digest(item.path) if item.is_copied else data_digest(data)
        if image.exists() and not self.states.wrote(item.stem, image):
            same = file_digest(image) == digest or (not item.is_copied and _shows(image, pixels))
            if self.settings.beside or not (same or self.settings.overwrite):
                return same
        self.states.announce(item.stem, item.source, image, digest)
        with atomic_write(image) as temporary:
            if item.is_copied:
                shutil.copyfile(item.path, temporary)
            else:
                temporary.write_bytes(data)
        return True


def _shows(image: Path, pixels: npt.NDArray[np.uint8]) -> bool:
    """Whether a file holds these pixels, however it is packed."""
    try:
        return np.array_equal(read_image(image).pixels, pixels)
    except UserError:
        return False


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
