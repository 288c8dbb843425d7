"""Small files and masks for the tests of the data package."""

from __future__ import annotations

import base64
import functools
import io
import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.annotation_format import Format, WriteOptions, Writer
from kemr_lightning.data.image import read_image
from kemr_lightning.data.record import Record

TRIANGLE = [[10.0, 10.0], [30.0, 12.0], [20.0, 30.0]]

CLEAR: dict[str, Any] = {"brightness": 0, "contrast": (1, 1), "gamma": (1, 1), "shading": 0, "noise": 0, "blur_p": 0}
"""Settings of an `Augmentation` that leaves the light as it is."""


def frame(patch: Patch | None, size: tuple[int, int]) -> np.ndarray:
    """A patch on its whole image, ``(H, W)`` bool."""
    full = np.zeros(size, dtype=bool)
    if patch is not None:
        x0, y0, x1, y1 = patch.window
        full[y0:y1, x0:x1] = patch.binary().numpy()
    return full


def iou(first: np.ndarray, second: np.ndarray) -> float:
    union = (first | second).sum()
    return 1.0 if union == 0 else float((first & second).sum() / union)


def shape(points: Any, label: str = "chr", kind: str = "polygon", **more: Any) -> dict[str, Any]:
    """A shape as Labelme writes it."""
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def flat(name: str, size: tuple[int, int], level: int) -> np.ndarray:
    """A grey image but for the first pixels, which differ from one name to the next: no two images are copies."""
    pixels = np.full(size, level, dtype=np.uint8)
    pixels[0, :4] = np.frombuffer(zlib.crc32(name.encode()).to_bytes(4, "big"), dtype=np.uint8)
    return pixels


def write_labelme_file(
    folder: Path,
    stem: str = "one",
    shapes: list[dict[str, Any]] | None = None,
    image: np.ndarray | None = None,
    **changes: Any,
) -> Path:
    """A PNG (60 wide, 40 high unless given) and its JSON; ``changes`` replace keys, `REMOVE` removes them."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = flat(f"{folder.name}/{stem}", (40, 60), 90) if image is None else image
    Image.fromarray(pixels).save(folder / f"{stem}.png")
    document = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [shape(TRIANGLE)] if shapes is None else shapes,
        "imagePath": f"{stem}.png",
        "imageData": None,
        "imageHeight": pixels.shape[0],
        "imageWidth": pixels.shape[1],
    } | changes
    path = folder / f"{stem}.json"
    path.write_text(json.dumps({key: value for key, value in document.items() if value != REMOVE}))
    return path


REMOVE = "remove this key"


def blob(rng: np.random.Generator, size: tuple[int, int], smooth: float = 1.5, level: float = 0.5) -> np.ndarray:
    """A random smooth mask with parts and holes."""
    from scipy import ndimage

    return ndimage.gaussian_filter(rng.random(size), smooth) > level


def same_instances(first: Instances, second: Instances) -> bool:
    return (
        first.image_size == second.image_size
        and first.boxes.tolist() == second.boxes.tolist()
        and first.labels.tolist() == second.labels.tolist()
        and all(
            a.window == b.window and bool((a.values == b.values).all())
            for a, b in zip(first.patches or [], second.patches or [], strict=True)
        )
    )


def real_data(name: str) -> Path:
    """A folder of real data, or skip the test."""
    root = os.environ.get("KEMR_REAL_DATA")
    folder = Path(root or "", name)
    if root is None or not folder.is_dir():
        pytest.skip("KEMR_REAL_DATA is not set")
    return folder


COCO_SIZE = (40, 60)
"""``(H, W)`` of the images that `write_coco_file` writes."""


def coco_document(annotations: list[dict[str, Any]], names: tuple[str, ...] = ("one.png",)) -> dict[str, Any]:
    """A COCO file for images of 60 x 40; the annotations are of the first image unless they say otherwise."""
    height, width = COCO_SIZE
    images = [{"id": 10 + n, "file_name": name, "height": height, "width": width} for n, name in enumerate(names)]
    filled = [
        {"id": n, "image_id": 10, "category_id": 3, "iscrowd": 0, "bbox": [1, 2, 30, 10], **annotation}
        for n, annotation in enumerate(annotations)
    ]
    return {
        "images": images,
        "annotations": filled,
        "categories": [{"id": 3, "name": "chr"}, {"id": 5, "name": "other"}],
    }


def write_coco_file(
    folder: Path, content: Any, name: str = "labels.json", images: tuple[str, ...] = ("one.png",)
) -> Path:
    """A JSON and the images beside it."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))
    for image in images:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(flat(image, COCO_SIZE, 50)).save(folder / image)
    return folder / name


def png(array: np.ndarray, **options: Any) -> str:
    """An array as a base64 PNG."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **options)
    return base64.b64encode(buffer.getvalue()).decode()


class BoxSource:
    """Reads the folders of `BoxFormat`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.parts = [part for part in ("train", "val", "test") if (root / part).is_dir()] or ["all"]
        if not any(root.rglob("*.box")):
            raise UserError(f"{root} has no boxes. Draw some")

    def read(self, part: str) -> list[Record]:
        folder = self.root if part == "all" else self.root / part
        return [self._record(path) for path in sorted(folder.rglob("*.box"))]

    def _record(self, path: Path) -> Record:
        try:
            boxes = json.loads(path.read_text())["boxes"]
        except ValueError as error:
            raise UserError(f"{path} is broken") from error
        image = path.with_suffix(".png")
        outlines = [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=float) for x0, y0, x1, y1 in boxes]
        annotations = tuple(Annotation("box", polygons=(outline,)) for outline in outlines)
        return Record(image.relative_to(self.root).as_posix(), image, functools.partial(read_image, image), annotations)


class BoxFormat(Format):
    """A format of another program: ``NAME.box`` beside ``NAME.png``, ``{"boxes": [[x0, y0, x1, y1], ...]}``."""

    name = "boxes"

    def source(self, root: Path) -> BoxSource:
        return BoxSource(root)


class BoxWriter(Writer):
    """Writes `BoxFormat`."""

    def add(
        self,
        part: str,
        image: Path,
        annotations: Sequence[Annotation],
        size: tuple[int, int],
        group: str | None = None,
    ) -> None:
        boxes = [list(annotation.bounds()) for annotation in annotations]
        image.with_suffix(".box").write_text(json.dumps({"boxes": boxes}))

    def finish(self) -> None:
        pass


class WritableBoxFormat(BoxFormat):
    """The same, with a writer."""

    def writer(self, folder: Path, label_names: Sequence[str], options: WriteOptions) -> Writer:
        return BoxWriter()


def write_box_file(folder: Path, stem: str, boxes: list[list[float]] | None = None) -> Path:
    """A PNG of 60 x 40 and its boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(sum(map(ord, stem))).integers(0, 255, (40, 60), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{stem}.png")
    path = folder / f"{stem}.box"
    path.write_text(json.dumps({"boxes": [[5, 5, 20, 15], [30, 10, 40, 35]] if boxes is None else boxes}))
    return path


def expected_intensity(array: np.ndarray, colour: bool = False, channel: int = 0) -> np.ndarray:
    """The 8-bit intensity of ``(H, W)`` or ``(H, W, C)`` pixels: of one channel, or the luma of the first three."""
    array = array[:, :, None] if array.ndim == 2 else array
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    eight = array.dtype == np.uint8
    grey = array[:, :, :3].astype(np.float64) @ [0.299, 0.587, 0.114] if colour else array[:, :, channel]
    grey = grey.astype(np.float64)
    if eight:
        return np.rint(grey)
    low, high = np.percentile(grey[np.isfinite(grey)], (0.1, 99.9))
    return np.rint(((np.nan_to_num(grey, nan=low) - low) / (high - low) * 255).clip(0, 255))
