"""The files of one predicted image: Labelme JSON with its image, crops, a picture for the report, and its state."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from skimage.measure import find_contours

from kemr_lightning.core.digests import data_digest, file_digest
from kemr_lightning.core.errors import UserError
from kemr_lightning.core.files import whole, write_text
from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.core.run_directory import CROPS, LABELME
from kemr_lightning.data.image import read_image
from kemr_lightning.data.labelme import embedded_image, labelme_text, parse_labelme
from kemr_lightning.metrics.records import record
from kemr_lightning.prediction.crops import background, measure, shared_pixels, upright
from kemr_lightning.prediction.image_state import ImageState, StateFolder
from kemr_lightning.prediction.inference import Prediction
from kemr_lightning.prediction.inputs import Input
from kemr_lightning.prediction.review import Review, facts, review

logger = logging.getLogger(__name__)

_SIMPLIFY = 0.4
"""Pixels by which an outline in the report may be off."""


@dataclass(frozen=True)
class WriterOptions:
    """What is written for each image; `conf/task/predict.yaml` explains the fields."""

    score: float = 0.5
    expected: int | None = 46
    beside: bool = False
    overwrite: bool = False
    shape_type: str = "polygon"
    min_iou: float = 0.99
    crops: bool = True
    crop_scale: float = 1.0
    report_side: int = 1024

    def __post_init__(self) -> None:
        if not 0 <= self.score <= 1:
            raise UserError(f"predict.score={self.score} is no score. Give a number from 0 to 1.")
        if self.expected is not None and self.expected < 0:
            raise UserError(f"predict.expected={self.expected} is no count. Give a whole number or null.")
        if not 0.05 <= self.crop_scale <= 20:
            raise UserError(f"predict.crop_scale={self.crop_scale} is out of range. Give 0.05 to 20.")
        if self.report_side < 64:
            raise UserError(f"predict.report_side={self.report_side} is too small to see anything. Give at least 64.")


class ImageWriter:
    """Writes all files of single images into a run directory.

    A Labelme file that is there is replaced only if the states know it, unless ``overwrite`` says otherwise: any other
    was there before, or a person has changed it. An image is never replaced but by what it already is, or if the states
    know it.

    Args:
        directory: The run directory.
        root: The data root.
        states: Of the run directory.
        label_names: Names of labels 1, 2, ...
        options: See `WriterOptions`.
    """

    def __init__(
        self, directory: Path, root: Path, states: StateFolder, label_names: Sequence[str], options: WriterOptions
    ) -> None:
        self.directory = directory
        self.root = root
        self.states = states
        self.label_names = list(label_names)
        self.options = options

    def write(
        self,
        item: Input,
        image_id: int,
        pixels: npt.NDArray[np.uint8],
        prediction: Prediction,
        truth: Instances | None,
        seconds: float = 0.0,
    ) -> ImageState:
        """Write the files of an image; its state comes last.

        Args:
            item: Where the image came from.
            image_id: From 1.
            pixels: ``(H, W)`` uint8.
            prediction: What was found.
            truth: Its annotations, or None.
            seconds: What predicting took.

        Returns:
            Its state.

        Raises:
            UserError: A file cannot be written.
        """
        options = self.options
        final = prediction.final
        # A mask may be empty after refinement; there is nothing to show of it.
        there = torch.tensor([patch.area() > 0 for patch in final.patches or []], dtype=torch.bool)
        chosen = (final.scores >= options.score) & there
        written = torch.nonzero(chosen)[:, 0].tolist()
        kept = final[chosen]
        found = facts(prediction.initial, final, prediction.cut, chosen)
        judged = review(found, options.expected)
        shared, shared_by = shared_pixels(kept)
        annotations = Instances.empty(final.image_size) if truth is None else truth
        name = item.image_name
        outlines = {"initial": [outline_path(patch) for patch in prediction.initial[chosen].patches or []]}
        if prediction.refined is not None:
            outlines["refined"] = [outline_path(patch) for patch in kept.patches or []]
        if truth is not None:
            outlines["truth"] = [outline_path(patch) for patch in truth.patches or []]
        self._write_picture(item, pixels)
        crops = self._write_crops(item, pixels, kept, shared_by) if options.crops else []
        # What a person works on comes last: were the run to end in between, it would be there without its state.
        labelme, image, digest = self._write_labelme(item, pixels, kept, judged)
        state = ImageState(
            key=self.states.key,
            version=item.version(),
            initial=record(prediction.initial, annotations, image_id, name),
            refined=None if prediction.refined is None else record(prediction.refined, annotations, image_id, name),
            annotated=truth is not None,
            written=written,
            areas=found.areas,
            disagreement=found.disagreement,
            border=found.border,
            review=judged,
            shared=shared,
            crops=crops,
            outlines=outlines,
            labelme=str(labelme),
            digest=digest,
            image=str(image) if image.is_file() else None,
            digests=self.states.digests(item.stem),
            source=item.source,
            seconds=round(seconds, 3),
        )
        self.states.save(item.stem, state)
        return state

    def _write_labelme(
        self, item: Input, pixels: npt.NDArray[np.uint8], kept: Instances, judged: Review
    ) -> tuple[Path, Path, str | None]:
        """The Labelme file, its image, and its digest, or None as the digest where an existing file was kept."""
        beside = self.options.beside
        folder = self.root if beside else self.directory / LABELME
        path = folder / f"{item.stem}.json"
        original = beside and item.is_file
        image = item.path if original else folder / item.image_name
        inside = beside and item.path == path  # The only copy of the image is in the file to be replaced.
        try:
            embedded = _png(pixels) if original and not item.is_copied else None
            if inside:
                stated = (parse_labelme(path).image_path or "").replace("\\", "/")
                image = path.with_name(Path(stated).name or image.name)
                embedded = embedded_image(path)
            text = labelme_text(
                path,
                image,
                kept,
                self.label_names,
                shape_type=self.options.shape_type,
                min_iou=self.options.min_iou,
                marks=[dict.fromkeys(sorted(marks), True) for marks in judged.marks],
                flags=dict.fromkeys(judged.reasons, True),
                embedded=embedded,
            )
            digest = data_digest(text.encode())
            if not self._may_write(item, path, digest):
                if not beside and not image.exists():
                    self._place_image(item, pixels, image)
                return path, image, None
            if not original and not inside and not self._place_image(item, pixels, image):
                logger.warning(
                    "%s is not this run's and stays: no Labelme file for %s. Move it away.", image, item.name
                )
                return path, image, None
            self.states.announce(item.stem, item.source, path, digest)
            write_text(path, text)
        except OSError as error:
            reason = error.strerror or error
            raise UserError(f"cannot write {path}: {reason}. Free space or choose another place.") from error
        return path, image, digest

    def _may_write(self, item: Input, path: Path, digest: str) -> bool:
        """Whether a Labelme file may be written: there is none, or it is as this program left it or would write it."""
        if self.options.overwrite or not path.exists():
            return True
        return self.states.wrote(item.stem, path) or file_digest(path) == digest

    def _place_image(self, item: Input, pixels: npt.NDArray[np.uint8], image: Path) -> bool:
        """Put an image beside its Labelme file; False if another one is there, which stays."""
        data = b"" if item.is_copied else _png(pixels)
        digest = file_digest(item.path) if item.is_copied else data_digest(data)
        if image.exists() and not self.states.wrote(item.stem, image):
            same = file_digest(image) == digest or (not item.is_copied and _shows(image, pixels))
            if self.options.beside or not (same or self.options.overwrite):
                return same
        self.states.announce(item.stem, item.source, image, digest)
        with whole(image) as temporary:
            if item.is_copied:
                shutil.copyfile(item.path, temporary)
            else:
                temporary.write_bytes(data)
        return True

    def _write_picture(self, item: Input, pixels: npt.NDArray[np.uint8]) -> None:
        scale = min(1.0, self.options.report_side / max(pixels.shape))
        if scale < 1:
            size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        with whole(self.states.picture(item.stem)) as temporary:
            Image.fromarray(pixels).save(temporary, quality=80, optimize=True)

    def _write_crops(
        self, item: Input, pixels: npt.NDArray[np.uint8], kept: Instances, shared_by: Sequence[int]
    ) -> list[dict[str, Any]]:
        folder = self.directory / CROPS / item.stem
        if folder.is_dir():
            shutil.rmtree(folder)
        ground = background(pixels, kept)
        rows = []
        for number, patch in enumerate(kept.patches or [], start=1):
            measured = measure(pixels, patch)
            if measured is None:
                continue
            file = folder / f"{number:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(upright(pixels, patch, measured.angle, ground, self.options.crop_scale)).save(file)
            rows.append(
                {
                    "file": file.relative_to(self.directory / CROPS).as_posix(),
                    "instance": number,
                    "shared_pixels": shared_by[number - 1],
                    **measured.row(),
                }
            )
        return rows


def _shows(image: Path, pixels: npt.NDArray[np.uint8]) -> bool:
    """Whether a file holds these pixels, however they are packed."""
    try:
        return np.array_equal(read_image(image).pixels, pixels)
    except UserError:
        return False


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def outline_path(patch: Patch) -> str:
    """The outline of a mask as an SVG path in tenths of an image pixel; empty for an empty mask."""
    values = np.pad(patch.values.numpy().astype(np.float32), 1)
    pieces = []
    lines: list[npt.NDArray[np.float64]] = find_contours(values, 0.5)  # type: ignore[no-untyped-call]
    for line in lines:
        points = (line[:, ::-1] + np.array([patch.x0 - 0.5, patch.y0 - 0.5])).astype(np.float32)
        simple = cv2.approxPolyDP(points[:-1, None], _SIMPLIFY, True)[:, 0]
        if len(simple) < 3:
            continue
        tenths = np.rint(simple * 10).astype(int)
        steps = np.diff(tenths, axis=0)
        pieces.append(f"M{tenths[0, 0]} {tenths[0, 1]}l" + " ".join(f"{dx} {dy}" for dx, dy in steps.tolist()) + "z")
    return "".join(pieces)


def options_of(settings: dict[str, Any]) -> WriterOptions:
    """The writer's options from a configuration's ``predict`` node, which has others besides.

    Raises:
        UserError: A value is out of range.
    """
    names = asdict(WriterOptions()).keys()
    return WriterOptions(**{name: value for name, value in settings.items() if name in names})
