"""A data set of boxes, written again with outlines as far as they are certain."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kemr_lightning.core.errors import SettingError, UserError
from kemr_lightning.core.instances import Instances
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.annotation_format import WriteOptions
from kemr_lightning.data.coco.write import CocoWriter
from kemr_lightning.data.formats import format_named
from kemr_lightning.data.labels import LabelMap, map_labels, names_of
from kemr_lightning.data.record import Record
from kemr_lightning.outlining.box_outlines import outline_boxes
from kemr_lightning.outlining.model_outlines import adopt_masks
from kemr_lightning.outlining.settings import OutlineSettings

Predict = Callable[[Tensor], Instances]
"""Finds the instances of an image ``(H, W)`` uint8, refined."""


@dataclass
class Outlined:
    """The result.

    Attributes:
        folder: The new data root, in COCO's format.
        images: Number of images.
        instances: Number of instances.
        by_stain: Instances outlined from the image alone.
        by_model: Instances outlined by the model.
        before: Instances that had a mask already.
    """

    folder: Path
    images: int = 0
    instances: int = 0
    by_stain: int = 0
    by_model: int = 0
    before: int = 0


def outline_dataset(
    root: Path,
    data_format: str,
    folder: Path,
    label_map: LabelMap = None,
    predict: Predict | None = None,
    settings: OutlineSettings | None = None,
    progress: Callable[[Sequence[tuple[str, Record]]], Iterable[tuple[str, Record]]] = iter,
) -> Outlined:
    """Write a data set with outlines where it has boxes only. Boxes that cannot be outlined stay boxes, made tight.

    Args:
        root: The data folder.
        data_format: Name of its format.
        folder: The new data root; it must be missing or empty.
        label_map: See `kemr_lightning.data.labels.LabelMap`.
        predict: A model, for chromosomes that touch others; None leaves those as boxes.
        settings: When an outline is certain; None for the defaults.
        progress: Wraps the list of parts and records, to show the progress.

    Raises:
        SettingError: The format is unknown, or ``root`` is not a folder.
        UserError: The new folder is not empty, a file of the data set is broken, or all instances have masks.
    """
    if not root.is_dir():
        raise SettingError("root", root, "is not a folder", "Give the folder that holds the data")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already. Choose another folder: nothing is overwritten")
    source = format_named(data_format, "data_format").source(root)
    records = [(part, record) for part in source.parts for record in map_labels(source.read(part), label_map)]
    if not any(annotation.box_only for _, record in records for annotation in record.annotations or ()):
        raise UserError(f"{root} has no boxes without masks: there is nothing to outline. Train on it as it is")
    writer = CocoWriter(folder, names_of([record for _, record in records]), WriteOptions(shape_type="mask"))
    result = Outlined(folder)
    for part, record in progress(records):
        pixels = record.load().pixels
        size = (int(pixels.shape[0]), int(pixels.shape[1]))
        annotations = _outlined(torch.tensor(pixels), record.annotations or (), predict, settings, result)
        image = folder / ("" if part == "all" else part) / Path(record.name).name
        if image.exists():
            raise UserError(f"two images of {root} are called {image.name}. Rename one of them")
        image.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(record.path, image)
        writer.add(part, image, annotations, size, record.group)
        result.images += 1
        result.instances += len(annotations)
    writer.finish()
    return result


def _outlined(
    pixels: Tensor,
    annotations: Sequence[Annotation],
    predict: Predict | None,
    settings: OutlineSettings | None,
    result: Outlined,
) -> list[Annotation]:
    """The annotations of one image, with masks where they are certain; counted in ``result``."""
    boxes = np.array([annotation.bounds() for annotation in annotations], dtype=np.float64).reshape(-1, 4)
    found = outline_boxes(pixels.numpy(), boxes, settings)
    masks = found.masks if predict is None else adopt_masks(found, predict(pixels), settings)
    outlined = []
    for annotation, own, mask, box in zip(annotations, found.masks, masks, found.boxes.tolist(), strict=True):
        if not annotation.box_only:
            result.before += 1
            outlined.append(annotation)
        elif mask is None:
            outlined.append(replace(annotation, box=(box[0], box[1], box[2], box[3])))
        else:
            result.by_stain += own is not None
            result.by_model += own is None
            outlined.append(replace(annotation, box=None, patches=(mask,)))
    return outlined
