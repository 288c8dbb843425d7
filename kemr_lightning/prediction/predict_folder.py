"""Predict a folder of images into a run directory; a run that was interrupted resumes where it stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import remove_unfinished
from kemr_lightning.data.formats import DEFAULT
from kemr_lightning.data.image import DEFAULT_READING, Reading, tell_channels
from kemr_lightning.data.labels import LabelMap
from kemr_lightning.data.regions import Regions
from kemr_lightning.prediction.image_files import ImageWriter
from kemr_lightning.prediction.image_state import ImageState, StateFolder
from kemr_lightning.prediction.inference import Model
from kemr_lightning.prediction.inputs import Input, find_inputs
from kemr_lightning.prediction.labelme_files import LabelmeFileWriter
from kemr_lightning.prediction.result import Failure, FinishedImage, PredictionResult
from kemr_lightning.prediction.run_files import write_run_files
from kemr_lightning.prediction.settings import PredictSettings

logger = logging.getLogger(__name__)

ABANDONED = 3600.0
"""Seconds after which an unfinished file among the user's images counts as abandoned."""


@dataclass(frozen=True)
class PredictionRun:
    """Predicts the images of a folder, one by one, and writes what is found in them.

    Attributes:
        model: Predicts an image.
        root: The folder of images.
        directory: The run directory.
        settings: How images are cut and what is written.
        key: What finished images depend on besides their files: a digest of model, refinement, settings and version.
            An image that was finished under the same key is not predicted again.
        data_format: Format of the folder's annotations, if it has any; see `kemr_lightning.data.formats.FORMATS`.
        label_map: New names of the annotations' labels, as in the data module.
        regions: Which annotations are instances, as in the data module.
        reading: How the images are read.
        progress: Wraps the images, to show how far the run is.
    """

    model: Model
    root: Path
    directory: Path
    settings: PredictSettings
    key: str
    data_format: str = DEFAULT
    label_map: LabelMap = None
    regions: Regions = field(default_factory=Regions)
    reading: Reading = DEFAULT_READING
    progress: Callable[[Sequence[Input]], Iterable[Input]] = iter

    def predict_images(self) -> PredictionResult:
        """Predict every image that is not finished, and write its files.

        An image that cannot be predicted does not affect the others.

        Returns:
            What became of the images, as far as the run came: Ctrl-C ends it early.

        Raises:
            UserError: The folder is missing or has no images.
        """
        remove_unfinished(self.directory)
        if self.settings.beside:
            remove_unfinished(self.root, ABANDONED)  # other runs may be writing there now
        states = StateFolder(self.directory, self.key)
        memory = states.memory()
        # What this run has written beside the images is not an annotation when it resumes, until somebody edits it.
        inputs = find_inputs(self.root, self.data_format, [self.directory], memory.wrote, memory.stems, self.reading)
        labelme = LabelmeFileWriter(self.directory, self.root, states, self.model.label_names, self.settings)
        writer = ImageWriter(self.directory, states, labelme, self.settings)
        result = PredictionResult(len(inputs))
        try:
            for number, item in enumerate(self.progress(inputs), start=1):
                self._finish(item, number, states, writer, result)
        except KeyboardInterrupt:
            result.interrupted = True
        tell_channels(result.channels)
        return result

    def write_files(self, result: PredictionResult, title: str) -> None:
        """Write the files about all images.

        Args:
            result: What became of the images.
            title: The report's title, one line.

        Raises:
            OSError: A file cannot be written.
        """
        states = StateFolder(self.directory, self.key)
        write_run_files(self.directory, result, states, self.model.label_names, self.settings, title)

    def _finish(
        self, item: Input, number: int, states: StateFolder, writer: ImageWriter, result: PredictionResult
    ) -> None:
        """Predict an image unless it is finished, and add what became of it to the result."""
        try:
            state = states.finished(item.stem, item.version())
            if state is None:
                state = self._predict(item, number, writer, result)
            else:
                state = state.numbered(number, item.image_name)
                result.resumed += 1
            result.finished.append(FinishedImage(item.stem, state))
        except (UserError, OSError) as error:
            result.failures.append(Failure(item.name, _line(error)))
        except Exception as error:
            # A fault of the program in one image should not affect the others; the log has where it came from.
            logger.exception("%s could not be done", item.name)
            result.failures.append(Failure(item.name, f"{type(error).__name__}: {_line(error)}"))

    def _predict(self, item: Input, number: int, writer: ImageWriter, result: PredictionResult) -> ImageState:
        """Predict an image and write its files."""
        loaded = item.load()
        if loaded.channel is not None:
            result.channels[loaded.channel] += 1
        # Some decoders hand out memory that must not be written to, which PyTorch warns about.
        pixels = np.require(loaded.pixels, requirements="W")
        size = (int(pixels.shape[0]), int(pixels.shape[1]))
        truth = item.truth(self.model.label_names, self.label_map, size, loaded.orientation, self.regions)
        start = time.perf_counter()
        prediction = self.model(torch.from_numpy(pixels), item.name)
        return writer.write(item, number, pixels, prediction, truth, time.perf_counter() - start)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
