"""Instances as Labelme JSON, to be corrected in Labelme and trained on again."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kemr_lightning.core import rle
from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.files import write_text
from kemr_lightning.core.instances import Instances, Patch
from kemr_lightning.data.annotation import Annotation, annotation_patch
from kemr_lightning.data.annotation_format import SHAPE_TYPES
from kemr_lightning.data.image import image_size
from kemr_lightning.data.labelme.read import LabelmeInstances
from kemr_lightning.data.outline import mask_polygons

VERSION = "5.5.0"
"""The Labelme version whose format is written; later versions read it too."""


def write_labelme(
    json_path: str | Path,
    image_path: str | Path,
    instances: Instances,
    label_names: Sequence[str] | None = None,
    *,
    shape_type: str = "polygon",
    min_iou: float = 0.99,
    overwrite: bool = False,
    marks: Sequence[Mapping[str, bool]] | None = None,
    flags: Mapping[str, bool] | None = None,
    other_shapes: Sequence[Mapping[str, Any]] | None = None,
    embedded: bytes | None = None,
) -> Path:
    """Write the instances of one image as a Labelme file.

    Instances from `read_labelme` are written as they stood in their file unless their mask, class or score has been
    changed. The file's flags, its points and lines and the keys of other programs are written with them. All other
    instances become one polygon for each connected part; the parts of one instance share a ``group_id``, and holes are
    cut in along a seam. The score is written into the description as ``{"score": 0.97}``, as Labelme does for its own
    predictions.

    Args:
        json_path: The file to write.
        image_path: The annotated image; its path relative to the JSON's folder is written into the file.
        instances: At the image's size.
        label_names: Names of labels 1, 2, …; None takes the names that the instances hold, or else
            ``"chromosome"`` if label 1 is the only one, and the numbers if there are others.
        shape_type: ``"polygon"``, or ``"mask"`` for Labelme's bitmap shapes, which are exact.
        min_iou: Minimum IoU of each part's polygon with the part; 1 follows the pixel edges.
        overwrite: Replace an existing file.
        marks: Flags of each instance, such as ``{"review": True}``.
        flags: Flags of the image; None takes those of the file that the instances came from, if any.
        other_shapes: Shapes to add as they are; None takes `LabelmeFile.other_shapes` of that file, if any.
        embedded: The image as an upright PNG or JPEG file, for Labelme to show if it cannot open the image file. This
            package prefers the image file.

    Returns:
        ``json_path``.

    Raises:
        SettingError: ``shape_type`` is unknown.
        UserError: The file exists, the image has another size, or a label has no name.
    """
    json_path, image_path = Path(json_path), Path(image_path)
    if json_path.exists() and not overwrite:
        raise UserError(f"{json_path} exists. Choose another folder, or allow overwriting.")
    height, width = instances.image_size
    if image_path.is_file() and (found := image_size(image_path)) != (height, width):
        raise UserError(f"{image_path} is {found[1]}x{found[0]}, the instances {width}x{height}. Match the two.")
    text = labelme_text(
        json_path,
        image_path,
        instances,
        label_names,
        shape_type=shape_type,
        min_iou=min_iou,
        marks=marks,
        flags=flags,
        other_shapes=other_shapes,
        embedded=embedded,
    )
    write_text(json_path, text)
    return json_path


def labelme_text(
    json_path: Path,
    image_path: Path,
    instances: Instances,
    label_names: Sequence[str] | None = None,
    *,
    shape_type: str = "polygon",
    min_iou: float = 0.99,
    marks: Sequence[Mapping[str, bool]] | None = None,
    flags: Mapping[str, bool] | None = None,
    other_shapes: Sequence[Mapping[str, Any]] | None = None,
    embedded: bytes | None = None,
) -> str:
    """The text that `write_labelme` writes; neither file has to exist.

    Raises:
        SettingError: ``shape_type`` is unknown.
        UserError: A label has no name.
    """
    if shape_type not in SHAPE_TYPES:
        raise SettingError("shape_type", shape_type, "is unknown", "Use polygon or mask")
    height, width = instances.image_size
    shapes = _shapes(instances, _namer(instances, label_names), shape_type, min_iou, marks)
    source = instances.file if isinstance(instances, LabelmeInstances) else None
    if source is not None:
        flags = source.flags if flags is None else flags
        other_shapes = source.other_shapes if other_shapes is None else other_shapes
    document = {
        "version": VERSION,
        "flags": dict(flags or {}),
        "shapes": [*shapes, *(dict(shape) for shape in other_shapes or ())],
        "imagePath": Path(os.path.relpath(image_path.absolute(), json_path.parent.absolute())).as_posix(),
        "imageData": None if embedded is None else base64.b64encode(embedded).decode("ascii"),
        "imageHeight": height,
        "imageWidth": width,
        **(source.other_data if source is not None else {}),
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _namer(instances: Instances, label_names: Sequence[str] | None) -> dict[int, str]:
    """The names of the labels that occur."""
    if label_names is None and isinstance(instances, LabelmeInstances):
        label_names = instances.label_names
    present = sorted(set(instances.labels.tolist()))
    if label_names is None:
        return {label: "chromosome" if present == [1] else str(label) for label in present}
    if present and (present[0] < 1 or present[-1] > len(label_names)):
        raise UserError(f"label {present[-1]} has no name: {len(label_names)} label_names were given. Name each label.")
    return {label: label_names[label - 1] for label in present}


def _shapes(
    instances: Instances,
    names: Mapping[int, str],
    shape_type: str,
    min_iou: float,
    marks: Sequence[Mapping[str, bool]] | None,
) -> list[dict[str, Any]]:
    sources = instances.annotations if isinstance(instances, LabelmeInstances) else ()
    used = [source.group_id for source in sources if isinstance(source.group_id, int)]
    group = max(used, default=0)
    shapes: list[dict[str, Any]] = []
    for index in range(len(instances)):
        if sources and _unchanged(sources[index], instances, index, names):
            shapes += [dict(raw) for raw in sources[index].raw]
            continue
        if instances.patches is None:
            x0, y0, x1, y1 = instances.boxes[index].tolist()
            parts: list[dict[str, Any]] = [unlabelled_shape([[x0, y0], [x1, y1]], "rectangle")]
        elif shape_type == "mask":
            parts = mask_shapes(instances.patches[index])
        else:
            parts = polygon_shapes(instances.patches[index], min_iou)
        group += len(parts) > 1
        score = float(instances.scores[index])
        for part in parts:
            part["label"] = names[int(instances.labels[index])]
            part["group_id"] = group if len(parts) > 1 else None
            part["description"] = json.dumps({"score": round(score, 4)})
            part["flags"] = dict(marks[index]) if marks is not None else {}
        shapes += parts
    return shapes


def _unchanged(source: Annotation, instances: Instances, index: int, names: Mapping[int, str]) -> bool:
    """Whether mask, class and score of an instance are still those of its annotation."""
    score = 1.0 if source.score is None else source.score
    if not source.raw or names[int(instances.labels[index])] != source.label:
        return False
    if abs(float(instances.scores[index]) - score) > 1e-6:
        return False
    if instances.patches is None:
        return True
    size = instances.image_size
    annotated = annotation_patch(source, size)
    return annotated is not None and rle.encode(annotated, size) == rle.encode(instances.patches[index], size)


def unlabelled_shape(points: list[list[float]], shape_type: str, mask: str | None = None) -> dict[str, Any]:
    """A shape without label, with its keys in the order in which Labelme writes them.

    Args:
        points: Corners ``[x, y]``.
        shape_type: As Labelme names it.
        mask: A base64 PNG, for shapes of type ``"mask"``.
    """
    shape: dict[str, Any] = {"label": "", "points": points, "group_id": None, "description": ""}
    return {**shape, "shape_type": shape_type, "flags": {}, "mask": mask}


def polygon_shapes(patch: Patch, min_iou: float) -> list[dict[str, Any]]:
    """A mask as polygon shapes, one for each connected part, without label and group.

    Args:
        patch: The mask.
        min_iou: Minimum IoU of each part's polygon with the part.
    """
    polygons = mask_polygons(patch.binary().detach().cpu().numpy(), min_iou)
    return [unlabelled_shape((polygon + np.array([patch.x0, patch.y0])).tolist(), "polygon") for polygon in polygons]


def mask_shapes(patch: Patch) -> list[dict[str, Any]]:
    """A mask as one bitmap shape without label; no shape if the mask is empty.

    The second point is the last pixel and not one beyond it, as in Labelme.
    """
    values = patch.binary().detach().cpu().numpy()
    if not values.any():
        return []
    rows, columns = np.flatnonzero(values.any(axis=1)), np.flatnonzero(values.any(axis=0))
    tight = values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(tight).save(buffer, "PNG")
    corners = [
        [float(patch.x0 + columns[0]), float(patch.y0 + rows[0])],
        [float(patch.x0 + columns[-1]), float(patch.y0 + rows[-1])],
    ]
    return [unlabelled_shape(corners, "mask", base64.b64encode(buffer.getvalue()).decode("ascii"))]
