"""Label Studio's JSON: polygons, brush masks, ellipses and boxes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kemr_lightning.core.errors import UserError
from kemr_lightning.data.annotation import Annotation, tight_patch
from kemr_lightning.data.exports.images import ImageIndex
from kemr_lightning.data.exports.shapes import boxed, ellipse, outlined, turned
from kemr_lightning.data.exports.source import Export, ExportFormat
from kemr_lightning.data.folder import read_json, walk

KINDS = ("polygon", "brush", "ellipse", "rectangle")
"""Kinds of regions; their results are called so, or so with ``labels``."""


class LabelStudioFormat(ExportFormat):
    """The export “JSON” or “JSON-MIN”, beside the images.

    Of several annotations of a task, the first that is not cancelled counts. Relations between regions are not read:
    each region is an instance.
    """

    name = "label_studio"
    config = "label_studio"

    def read(self, root: Path, images: ImageIndex) -> Export:
        """See `ExportFormat.read`."""
        export = Export()
        files = walk(root, [".json"])
        for path in files:
            document = read_json(path, "Export it again.")
            if not isinstance(document, list) or not all(isinstance(task, dict) for task in document):
                export.faults.append(f"{path} is no JSON of Label Studio: it is not a list of tasks. Export it again.")
                continue
            for number, task in enumerate(document, start=1):
                try:
                    _add(f"{path}: task {task.get('id', number)}", path, task, images, export)
                except UserError as error:
                    export.faults.append(str(error))
        if not files:
            raise UserError(f"{root} has no JSON of Label Studio. Export “JSON” and put it beside the images")
        return export


def _add(where: str, path: Path, task: Mapping[str, Any], images: ImageIndex, export: Export) -> None:
    """Add the image of one task.

    Args:
        where: Begins every message.
        path: The JSON.
        task: Of either kind of export.
        images: Where images are looked for.
        export: The image is added here.

    Raises:
        UserError: A region cannot be understood.
    """
    results = _results(task)
    if results is None:
        return
    data = task.get("data", task)
    stated = [value for value in (data.values() if isinstance(data, dict) else ()) if isinstance(value, str)]
    stated += [name] if isinstance(name := task.get("file_upload"), str) else []
    image = next((there for name in stated if (there := images.find(name, path)) is not None), None)
    labels = {each["id"]: label for each in results if "id" in each and (label := _label(each)) is not None}
    found: list[Annotation] = []
    size = None
    for each in results:
        kind = str(each.get("type", "")).removesuffix("labels")
        if kind not in KINDS:
            export.skipped[kind] += kind not in ("", "choices", "textarea", "relation", "rating")
            continue
        if each.get("image_rotation"):
            raise UserError(f"{where} was annotated on a turned image. Turn it back in Label Studio and export again.")
        try:
            size = (int(each["original_height"]), int(each["original_width"]))
            shape = _annotation(kind, labels.get(each.get("id")) or _label(each), each, size)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(f"{where} has a {kind} that is not Label Studio's ({error!r}). Export it again.") from error
        if isinstance(shape, str):
            export.skipped[shape] += 1
        else:
            found.append(shape)
    export.add(where, image, found, size=size)


def _results(task: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The results of a task, each with its ``value``; None if nobody has annotated it."""
    if "annotations" in task or "completions" in task:
        done = [each for each in task.get("annotations") or task.get("completions") or () if isinstance(each, dict)]
        chosen = next((each for each in done if not each.get("was_cancelled")), None)
        return None if chosen is None else [each for each in chosen.get("result") or () if isinstance(each, dict)]
    return list(_minimal(task))


def _minimal(task: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The regions of a task of “JSON-MIN” as those of “JSON”."""
    for regions in task.values():
        for region in regions if isinstance(regions, list) else ():
            if isinstance(region, dict) and "original_width" in region:
                kind = next((key for key in region if key.endswith("labels")), "")
                kind = kind if kind != "labels" else _kind_of(region)
                yield {**region, "type": kind, "value": region}


def _kind_of(region: Mapping[str, Any]) -> str:
    keys = {"points": "polygon", "rle": "brush", "radiusX": "ellipse", "width": "rectangle"}
    return next((kind for key, kind in keys.items() if key in region), "")


def _label(result: Mapping[str, Any]) -> str | None:
    """The label of a result, if it has one."""
    value = result.get("value")
    for key, names in value.items() if isinstance(value, dict) else ():
        if key.endswith("labels") and isinstance(names, list) and names:
            return str(names[0])
    return None


def _annotation(kind: str, label: str | None, result: Mapping[str, Any], size: tuple[int, int]) -> Annotation | str:
    if label is None:
        return "regions without a label"
    value: Mapping[str, Any] = result["value"]
    height, width = size
    scale = np.array([width, height]) / 100
    if kind == "brush":
        patch = tight_patch(brush_mask(value["rle"], size), 0, 0)
        return "degenerate" if patch is None else Annotation(label, patches=(patch,))
    if kind == "polygon":
        return outlined(label, np.array(value["points"], dtype=np.float64) * scale)
    x, y = (np.array([float(value["x"]), float(value["y"])]) * scale).tolist()
    turn = float(value.get("rotation", 0))
    if kind == "ellipse":
        radii = (float(value["radiusX"]) * scale[0], float(value["radiusY"]) * scale[1])
        return outlined(label, ellipse((x, y), radii, turn))
    across, down = float(value["width"]) * scale[0], float(value["height"]) * scale[1]
    if turn % 360 == 0:
        return boxed(label, (x, y, x + across, y + down))
    corners = np.array([[x, y], [x + across, y], [x + across, y + down], [x, y + down]])
    return outlined(label, turned(corners, (x, y), turn))  # about the upper left corner


def brush_mask(code: Sequence[int], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask of a brush: the opaque pixels of an RGBA image in the run lengths of the package ``rle-pack``.

    After 32 bits for the number of values, 5 for the bits of a value less 1, and 4 for each of four sizes of run
    lengths less 1, each run has a bit that tells whether it repeats one value, 2 bits for the size, its length less 1,
    and its value or values.

    Args:
        code: Bytes.
        size: ``(H, W)`` of the image.

    Returns:
        ``(H, W)``.

    Raises:
        ValueError: The code is not of such an image.
    """
    bits = np.unpackbits(np.asarray(code, dtype=np.uint8))
    place = 0

    def read(count: int) -> int:
        nonlocal place
        word = bits[place : place + count]
        if len(word) < count:
            raise ValueError("the code of the mask ends too early")
        place += count
        return int("".join(map(str, word.tolist())), 2)

    total, wide = read(32), read(5) + 1
    lengths = [read(4) + 1 for _ in range(4)]
    if total != size[0] * size[1] * 4:
        raise ValueError(f"the mask is not of {size[1]}x{size[0]} pixels")
    values = np.zeros(total, dtype=np.uint8)
    done = 0
    while done < total:
        repeats, length = read(1), read(lengths[read(2)]) + 1
        if repeats:
            values[done : done + length] = read(wide)
        else:
            for position in range(done, done + length):
                values[position] = read(wide)
        done += length
    opaque: npt.NDArray[np.bool_] = values.reshape(*size, 4)[..., 3] > 0
    return opaque
