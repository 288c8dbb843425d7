"""What a run of ``task=predict`` has come to: finished images, failures, and how many were finished before."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from kemr_lightning.prediction.image_state import ImageState


@dataclass(frozen=True)
class FinishedImage:
    """An image whose files are all written.

    Attributes:
        stem: As in `Input`.
        state: What is remembered of it.
    """

    stem: str
    state: ImageState


@dataclass(frozen=True)
class Failure:
    """An image that could not be predicted.

    Attributes:
        name: As in `Input`.
        reason: One line.
    """

    name: str
    reason: str


@dataclass
class PredictionResult:
    """What became of the images of a folder.

    Attributes:
        total: Number of images in the folder.
        finished: Those that are finished, by number.
        failures: Those that could not be predicted.
        resumed: How many of ``finished`` an earlier run had finished.
        interrupted: Whether the user stopped the run before the last image.
        channels: Number of images by the channel that they were read from, of those with a choice.
    """

    total: int
    finished: list[FinishedImage] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    resumed: int = 0
    interrupted: bool = False
    channels: Counter[str] = field(default_factory=Counter)

    @property
    def chromosomes(self) -> int:
        """Number of instances in the Labelme files."""
        return sum(len(image.state.written) for image in self.finished)

    @property
    def kept(self) -> list[Path]:
        """Labelme files that are not this run's, or have been edited, and were therefore left as they are."""
        files = [Path(image.state.labelme) for image in self.finished if image.state.digest is None]
        return [file for file in files if file.is_file()]
