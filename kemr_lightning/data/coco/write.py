"""A data set as COCO files: one for each part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kemr_lightning.core import rle
from kemr_lightning.core.files import write_json
from kemr_lightning.data.annotation import Annotation, annotation_patch
from kemr_lightning.data.annotation_format import WriteOptions, Writer

COCO_FILE = "annotations.json"
"""Name of the file in each part's folder."""


class CocoWriter(Writer):
    """Collects the annotations of each part and writes them at the end; existing files are replaced.

    Masks keep every pixel: outlines stay outlines, bitmaps become RLE (run-length encoding). Boxes are
    tight. Image ids do not repeat between the parts, and the categories are the same in all parts.
    """

    def __init__(self, folder: Path, label_names: Sequence[str], options: WriteOptions) -> None:
        """Start with no image.

        Args:
            folder: The new data root.
            label_names: Names of category 1, 2, …
            options: How masks are written.
        """
        self.folder = folder
        self.options = options
        self._numbers = {name: number for number, name in enumerate(label_names, start=1)}
        self._documents: dict[Path, dict[str, list[dict[str, Any]]]] = {}
        self._images = 0

    def add(
        self,
        part: str,
        image: Path,
        annotations: Sequence[Annotation],
        size: tuple[int, int],
        group: str | None = None,
    ) -> None:
        """See `Writer.add`. The group becomes the image's ``case``."""
        folder = self.folder if part == "all" else self.folder / part
        document = self._documents.setdefault(folder, {"images": [], "annotations": []})
        self._images += 1
        name = image.relative_to(folder).as_posix()
        entry = {"id": self._images, "file_name": name, "width": size[1], "height": size[0]}
        document["images"].append(entry | ({} if group is None else {"case": group}))
        for annotation in annotations:
            document["annotations"].append(
                {
                    "id": len(document["annotations"]) + 1,
                    "image_id": self._images,
                    "category_id": self._numbers[annotation.label],
                    **coco_shape(annotation, size, self.options.shape_type),
                    "iscrowd": int(annotation.crowd),
                }
            )

    def finish(self) -> None:
        """Write one file for each part."""
        categories = [{"id": number, "name": name} for name, number in self._numbers.items()]
        for folder, document in self._documents.items():
            write_json(folder / COCO_FILE, document | {"categories": categories})


def coco_shape(annotation: Annotation, size: tuple[int, int], shape_type: str) -> dict[str, Any]:
    """Box, area and segmentation of one annotation; no segmentation if it has a box only.

    Args:
        annotation: It covers some of the image.
        size: ``(H, W)`` of the image.
        shape_type: See `WriteOptions`.
    """
    if annotation.box_only:
        x0, y0, x1, y1 = annotation.bounds()
        return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
    patch = annotation_patch(annotation, size)
    assert patch is not None
    left, top, right, bottom = patch.window
    shape: dict[str, Any] = {"bbox": [left, top, right - left, bottom - top], "area": patch.area()}
    if annotation.patches or shape_type == "mask":
        coded = rle.encode(patch, size)
        counts = coded["counts"]
        text = counts if isinstance(counts, str) else counts.decode("ascii")
        return shape | {"segmentation": {"size": list(size), "counts": text}}
    return shape | {"segmentation": [polygon.ravel().tolist() for polygon in annotation.polygons]}
