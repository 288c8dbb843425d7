"""A data set as Labelme files: one beside each image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kemr_lightning.core.instances import Instances
from kemr_lightning.data.annotation import Annotation, annotation_patch
from kemr_lightning.data.annotation_format import WriteOptions, Writer
from kemr_lightning.data.labelme.write import mask_shapes, polygon_shapes, unlabelled_shape, write_labelme
from kemr_lightning.data.regions import IGNORE_LABELS


class LabelmeWriter(Writer):
    """Writes a Labelme file beside each image; existing files are replaced."""

    boxes_become_masks = True

    def __init__(self, options: WriteOptions) -> None:
        """Take the options."""
        self.options = options
        self.keeps_bitmaps = options.shape_type == "mask"

    def add(
        self,
        part: str,  # noqa: ARG002
        image: Path,
        annotations: Sequence[Annotation],
        size: tuple[int, int],
        group: str | None = None,  # noqa: ARG002
    ) -> None:
        """See `Writer.add`. Labelme has no place for the group."""
        shapes = labelme_shapes(annotations, size, self.options)
        json_path = image.with_suffix(".json")
        write_labelme(json_path, image, Instances.empty(size), other_shapes=shapes, overwrite=True)

    def finish(self) -> None:
        """Nothing is left to write."""


def labelme_shapes(
    annotations: Sequence[Annotation], size: tuple[int, int], options: WriteOptions
) -> list[dict[str, Any]]:
    """The shapes of one image; the parts of one instance share a ``group_id``, and crowds are labelled to be ignored.

    Args:
        annotations: Each covers some of the image.
        size: ``(H, W)`` of the image.
        options: How masks are written.
    """
    shapes: list[dict[str, Any]] = []
    for number, annotation in enumerate(annotations, start=1):
        parts = list(_parts(annotation, size, options))
        group = number if len(parts) > 1 else None
        description = "" if annotation.score is None else json.dumps({"score": round(annotation.score, 4)})
        label = IGNORE_LABELS[0] if annotation.crowd else annotation.label
        common = {"label": label, "group_id": group, "description": description}
        shapes += [{**part, **common} for part in parts]
    return shapes


def _parts(annotation: Annotation, size: tuple[int, int], options: WriteOptions) -> Iterator[dict[str, Any]]:
    if annotation.box_only:
        x0, y0, x1, y1 = annotation.bounds()
        yield unlabelled_shape([[x0, y0], [x1, y1]], "rectangle")
        return
    if options.shape_type == "mask":
        patch = annotation_patch(annotation, size)
        assert patch is not None
        yield from mask_shapes(patch)
        return
    for polygon in annotation.polygons:
        yield unlabelled_shape(polygon.tolist(), "polygon")
    for patch in annotation.patches:
        yield from polygon_shapes(patch, options.min_iou)
