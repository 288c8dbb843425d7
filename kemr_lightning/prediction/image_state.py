"""What is remembered of each predicted image: a small file, written last, so that an interrupted run can resume.

If the state file is complete, so is every other file of its image. The files about all images are made from the states
alone. Before a Labelme file or its image is put into place, a stub of the state records its digest. A file whose digest
no state or stub has recorded is somebody's work, and is not replaced.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kemr_lightning.core.digests import file_digest
from kemr_lightning.core.files import write_text
from kemr_lightning.core.run_directory import CROPS, STATE
from kemr_lightning.metrics.records import ImageRecord
from kemr_lightning.prediction.review import Review

logger = logging.getLogger(__name__)

Source = tuple[str, int | None]
"""An input: its file, relative to the data root, and its page, from 1, if it has several."""


@dataclass(frozen=True)
class ImageState:
    """One finished image.

    Attributes:
        key: Digest of what it was made with: model, refinement, settings, version of the program.
        version: Sizes and times of the files it was made from, see `Input.version`.
        initial: All predictions with the detector's masks, and the annotations.
        refined: The same with refined masks, or None without a refiner.
        annotated: Whether the image is annotated, possibly with no instance.
        written: Positions of the predictions that are in Labelme files, crops and counts. The fields below that have
            one entry per instance are about these, in this order.
        areas: Mask pixels of each.
        disagreement: As in `Instances`, or None.
        border: Whether each touches the image's border.
        review: See `kemr_lightning.prediction.review`.
        shared: Number of pixels that lie in several masks.
        crops: Columns of the crop index for each that was cut out; empty without crops.
        outlines: SVG paths in tenths of a pixel under ``initial`` and ``refined``, and of the annotations under
            ``truth``.
        labelme: The Labelme file.
        digest: SHA-256 of the Labelme file as it was written; None if another file was there and was kept.
        image: The image that the Labelme file is about, or None if there is none.
        digests: SHA-256 of the Labelme file and the image as they were written, by `StateFolder.place`.
        source: See `Source`.
        seconds: How long predicting and refining took.
    """

    key: str
    version: list[list[str | int]]
    initial: ImageRecord
    refined: ImageRecord | None
    annotated: bool
    written: list[int]
    areas: list[int]
    disagreement: list[float] | None
    border: list[bool]
    review: Review
    shared: int
    crops: list[dict[str, Any]]
    outlines: dict[str, list[str]]
    labelme: str
    digest: str | None
    image: str | None
    digests: dict[str, list[str]]
    source: Source
    seconds: float = 0.0

    @property
    def final(self) -> ImageRecord:
        """The record with the final masks."""
        return self.initial if self.refined is None else self.refined

    def numbered(self, image_id: int, name: str) -> ImageState:
        """The same state with the id and name that the image has now; both depend on the folder's other images."""
        refined = None if self.refined is None else replace(self.refined, image_id=image_id, name=name)
        return replace(self, initial=replace(self.initial, image_id=image_id, name=name), refined=refined)

    def dump(self) -> str:
        """As JSON."""
        content = asdict(self)
        if self.refined is not None:
            content["refined"]["truth"] = []  # the same as the initial record's
        content["review"]["marks"] = [sorted(marks) for marks in self.review.marks]
        return json.dumps(content, separators=(",", ":"), allow_nan=False)

    @classmethod
    def parse(cls, text: str) -> ImageState:
        """The inverse of `dump`.

        Raises:
            ValueError, KeyError, TypeError: The text is of another version or damaged.
        """
        content: dict[str, Any] = json.loads(text)
        initial = ImageRecord.from_document(content["initial"])
        refined = content["refined"]
        review = content["review"]
        content |= {
            "initial": initial,
            "refined": None if refined is None else replace(ImageRecord.from_document(refined), truth=initial.truth),
            "review": Review(review["score"], review["reasons"], [set(marks) for marks in review["marks"]]),
            "source": tuple(content["source"]),
        }
        return cls(**content)


@dataclass(frozen=True)
class Memory:
    """What the states of a run directory, taken together, say about inputs and files.

    Attributes:
        folder: The states.
        stems: The stem of each input.
        digests: SHA-256 of the files that were written, by `StateFolder.place`.
    """

    folder: StateFolder
    stems: Mapping[Source, str]
    digests: Mapping[str, list[str]]

    def wrote(self, path: Path) -> bool:
        """Whether a file is still as a run in this directory has written it."""
        known = self.digests.get(self.folder.place(path), ())
        return bool(known) and path.is_file() and file_digest(path) in known


class StateFolder:
    """The states of a run directory.

    Args:
        directory: The run directory.
        key: The run's key, see `ImageState`.
    """

    def __init__(self, directory: Path, key: str) -> None:
        self.directory = directory
        self.folder = directory / STATE
        self.key = key

    def path(self, stem: str) -> Path:
        """The state file of an input."""
        return self.folder / f"{stem}.json"

    def picture(self, stem: str) -> Path:
        """The JPEG of an input that the report shows."""
        return self.folder / f"{stem}.jpg"

    def place(self, path: Path) -> str:
        """The name of a file in the states: relative to the run directory, which may be moved, if it lies in there."""
        whole, directory = Path(os.path.abspath(path)), Path(os.path.abspath(self.directory))  # noqa: PTH100
        return (whole.relative_to(directory) if whole.is_relative_to(directory) else whole).as_posix()

    def last(self, stem: str) -> ImageState | None:
        """The state of an input, whatever its key; None if there is none that this version can read."""
        try:
            return ImageState.parse(self.path(stem).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            logger.debug("the state of %s is not readable", stem, exc_info=True)
            return None

    def digests(self, stem: str) -> dict[str, list[str]]:
        """Digests of the files that were written for an input, by `place`; from a state of any version, or a stub."""
        content = self._content(stem)
        labelme, digest, stored = content.get("labelme"), content.get("digest"), content.get("digests")
        found = {self.place(Path(labelme)): [digest]} if isinstance(labelme, str) and isinstance(digest, str) else {}
        for place, values in stored.items() if isinstance(stored, dict) else ():
            if isinstance(values, list):
                found[place] = [value for value in values if isinstance(value, str)]
        return found

    def _content(self, stem: str) -> dict[str, Any]:
        try:
            content = json.loads(self.path(stem).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def wrote(self, stem: str, path: Path) -> bool:
        """Whether a file of an input is still as it was written: nobody has worked on it."""
        known = self.digests(stem).get(self.place(path), ())
        return bool(known) and path.is_file() and file_digest(path) in known

    def memory(self) -> Memory:
        """What all states, of any version and key, say about inputs and files."""
        stems: dict[Source, str] = {}
        digests: dict[str, list[str]] = {}
        for path in sorted(self.folder.rglob("*.json")):
            stem = path.relative_to(self.folder).as_posix().removesuffix(".json")
            source = self._content(stem).get("source")
            if isinstance(source, list) and len(source) == 2 and isinstance(source[0], str):
                stems[source[0], source[1] if isinstance(source[1], int) else None] = stem
            for place, values in self.digests(stem).items():
                digests[place] = digests.get(place, []) + values
        return Memory(self, stems, digests)

    def announce(self, stem: str, source: Source, path: Path, digest: str) -> None:
        """Record a file right before it is put into place; the input counts as unfinished from now on.

        Args:
            stem: The input's stem.
            source: The input.
            path: Where the file will be.
            digest: SHA-256 of its content.
        """
        digests = self.digests(stem)
        # Until the file is in place, the one that it replaces is the run's own too.
        before = file_digest(path) if path.is_file() else None
        known = [value for value in digests.get(self.place(path), ()) if value == before != digest]
        digests[self.place(path)] = [*known, digest]
        write_text(self.path(stem), json.dumps({"source": source, "digests": digests}))

    def finished(self, stem: str, version: list[list[str | int]]) -> ImageState | None:
        """The state of an input that need not be done again: same key, same files, and all outputs are there."""
        state = self.last(stem)
        if state is None or state.key != self.key or state.version != version:
            return None
        files = [self.picture(stem), Path(state.labelme), *([] if state.image is None else [Path(state.image)])]
        files += [self.directory / CROPS / row["file"] for row in state.crops]
        return state if all(file.is_file() for file in files) else None

    def save(self, stem: str, state: ImageState) -> None:
        """Write the state of a finished input atomically."""
        write_text(self.path(stem), state.dump())
