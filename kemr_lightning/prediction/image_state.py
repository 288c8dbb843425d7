"""What is remembered of each predicted image: one small file, written last, so that an interrupted run can go on.

A whole state file means that every other file of its image is whole. The files about all images are made from states
alone. Before a Labelme file or its image is put into place, a stub says what it will be: a file that no state or stub
knows, or knows otherwise, is somebody's work and is not replaced.
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
from kemr_lightning.metrics.records import Entry, ImageRecord
from kemr_lightning.prediction.review import Review

logger = logging.getLogger(__name__)

Source = tuple[str, int | None]
"""An input: its file, relative to the data root, and its page, from 1, if it has several."""


@dataclass(frozen=True)
class ImageState:
    """One finished image.

    Attributes:
        key: Of the settings it was made with.
        version: Of the files it was made from.
        initial: All predictions with the detector's masks, and the annotations.
        refined: The same with refined masks, or None without a refiner.
        annotated: Whether the image has annotations (there may be none on it).
        written: Positions of the predictions that are in Labelme files, crops and counts.
        areas: Mask pixels of the written instances.
        disagreement: Of the mask heads on the written instances, or None.
        border: Whether each written instance touches the image's border.
        review: See `kemr_lightning.prediction.review`.
        shared: Pixels that lie in several written masks.
        crops: Columns of the crop index for each written instance; empty without crops.
        outlines: SVG paths in tenths of a pixel: ``initial`` and ``refined`` (written instances), ``truth``.
        labelme: The Labelme file.
        digest: Of the Labelme file as it was written; None where another file stood in the way and was kept.
        image: The image that the Labelme file is about, or None where there is none.
        digests: Of the Labelme file and the image as they were written, by their places (see `StateFolder.place`).
        source: See `Source`.
        seconds: What predicting and refining took.
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
        """The record that counts."""
        return self.initial if self.refined is None else self.refined

    def numbered(self, image_id: int, name: str) -> ImageState:
        """The same under another id and name: they depend on the other images of the folder."""
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
        initial = _record(content["initial"])
        refined = content["refined"]
        review = content["review"]
        content |= {
            "initial": initial,
            "refined": None if refined is None else replace(_record(refined), truth=initial.truth),
            "review": Review(review["score"], review["reasons"], [set(marks) for marks in review["marks"]]),
            "source": tuple(content["source"]),
        }
        return cls(**content)


def _record(content: Mapping[str, Any]) -> ImageRecord:
    entries = {
        key: [Entry(**{**entry, "box": tuple(entry["box"])}) for entry in content[key]]
        for key in ("truth", "predictions")
    }
    return ImageRecord(**{**content, **entries, "size": tuple(content["size"])})


@dataclass(frozen=True)
class Memory:
    """What all states of a run directory say about files.

    Attributes:
        folder: The states.
        stems: The stem that each input had.
        digests: Of the files that were written, by their places.
    """

    folder: StateFolder
    stems: Mapping[Source, str]
    digests: Mapping[str, list[str]]

    def wrote(self, path: Path) -> bool:
        """Whether a file is as this run directory's runs have written it."""
        known = self.digests.get(self.folder.place(path), ())
        return bool(known) and path.is_file() and file_digest(path) in known


class StateFolder:
    """The states of a run directory.

    Args:
        directory: The run directory.
        key: Of the run's settings.
    """

    def __init__(self, directory: Path, key: str) -> None:
        self.directory = directory
        self.folder = directory / STATE
        self.key = key

    def path(self, stem: str) -> Path:
        """The state file of an input."""
        return self.folder / f"{stem}.json"

    def picture(self, stem: str) -> Path:
        """The small picture of an input that the report shows."""
        return self.folder / f"{stem}.jpg"

    def place(self, path: Path) -> str:
        """What states call a file: its path in the run directory, which may be moved, or else the whole path."""
        whole, directory = Path(os.path.abspath(path)), Path(os.path.abspath(self.directory))  # noqa: PTH100
        return (whole.relative_to(directory) if whole.is_relative_to(directory) else whole).as_posix()

    def last(self, stem: str) -> ImageState | None:
        """What is remembered of an input, whatever the settings were; None if nothing of this version is."""
        try:
            return ImageState.parse(self.path(stem).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            logger.debug("the state of %s is not readable", stem, exc_info=True)
            return None

    def digests(self, stem: str) -> dict[str, list[str]]:
        """Digests of the files that were written for an input, by their places; from states of any version."""
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
        """Whether a file of an input is as it was written: nobody has worked on it."""
        known = self.digests(stem).get(self.place(path), ())
        return bool(known) and path.is_file() and file_digest(path) in known

    def memory(self) -> Memory:
        """What all states say, of whatever version and settings, about inputs and files."""
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
        """Remember a file right before it is put into place; the input counts as unfinished from now on.

        Args:
            stem: Of the input.
            source: The input.
            path: The file to be.
            digest: Of its content.
        """
        digests = self.digests(stem)
        # Until the file is there, the one that it replaces is known too.
        before = file_digest(path) if path.is_file() else None
        known = [value for value in digests.get(self.place(path), ()) if value == before != digest]
        digests[self.place(path)] = [*known, digest]
        write_text(self.path(stem), json.dumps({"source": source, "digests": digests}))

    def finished(self, stem: str, version: list[list[str | int]]) -> ImageState | None:
        """The state of an input that needs not be done again: same settings, same file, and its outputs are there."""
        state = self.last(stem)
        if state is None or state.key != self.key or state.version != version:
            return None
        files = [self.picture(stem), Path(state.labelme), *([] if state.image is None else [Path(state.image)])]
        files += [self.directory / CROPS / row["file"] for row in state.crops]
        return state if all(file.is_file() for file in files) else None

    def save(self, stem: str, state: ImageState) -> None:
        """Remember an input, whole or not at all."""
        write_text(self.path(stem), state.dump())
