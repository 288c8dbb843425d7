"""Synthetic metaphases as folders of image files with Labelme or COCO annotations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
from torch import from_numpy

from kemr_lightning.core.errors import UserError
from kemr_lightning.core.instances import Sample
from kemr_lightning.data.annotation import Annotation
from kemr_lightning.data.coco import write_coco
from kemr_lightning.data.labelme import LabelmeInstances, write_labelme
from kemr_lightning.data.synthetic.dataset import Split, SyntheticDataset
from kemr_lightning.data.synthetic.scene import MetaphaseSettings
from kemr_lightning.data.warp import clip_polygon

FORMATS = ("labelme", "coco")


def write_synthetic_folder(
    root: str | Path,
    train: int = 8,
    val: int = 2,
    test: int = 2,
    format: str = "labelme",
    settings: MetaphaseSettings | None = None,
    seed: int = 0,
    label_map: str | None = "single",
) -> Path:
    """Write synthetic metaphases as a data folder: ``train/``, ``val/`` and ``test/``, each with PNG images.

    Labelme folders hold the outlines as polygons, in one JSON beside each image; COCO folders hold the exact masks as
    run lengths in ``annotations.json``. Image ``k`` is the same however many are written, as in `SyntheticDataset`.

    Args:
        root: The folder. It is created if need be; files of the same names are replaced.
        train: Number of training images; a part without images is not written.
        val: Number of validation images.
        test: Number of test images.
        format: ``"labelme"`` or ``"coco"``.
        settings: See `SyntheticDataset`, as for the following arguments.
        seed: Seed of the images.
        label_map: ``"single"`` for one class, None for 24.

    Returns:
        ``root``.

    Raises:
        UserError: An argument is wrong.
    """
    if format not in FORMATS:
        raise UserError(f"format={format!r} is unknown. Use one of {', '.join(FORMATS)}.")
    root = Path(root)
    parts: dict[Split, int] = {"train": train, "val": val, "test": test}
    for split, length in parts.items():
        if length < 1:
            continue
        (root / split).mkdir(parents=True, exist_ok=True)
        dataset = SyntheticDataset(length, settings, seed, split, label_map)
        samples = _written(dataset, root, format == "labelme")
        if format == "coco":
            write_coco(root / split / "annotations.json", samples, dataset.label_names)
        else:
            for _ in samples:
                pass
    return root


def _written(dataset: SyntheticDataset, root: Path, labelme: bool) -> Iterator[Sample]:
    """Write the images of a data set, and their Labelme files if wanted; yield each sample once it is written."""
    for index in range(len(dataset)):
        scene = dataset.metaphase(index)
        instances = dataset.instances(scene)
        path = root / dataset.name(index)
        cv2.imwrite(str(path), scene.image)
        if labelme:
            annotations = [_as_shape(annotation, dataset.image_size) for annotation in dataset.annotations(scene)]
            known = LabelmeInstances(
                *(instances.image_size, instances.boxes, instances.scores, instances.labels, instances.patches),
                label_names=tuple(dataset.label_names),
                annotations=tuple(annotations),
            )
            write_labelme(path.with_suffix(".json"), path, known, overwrite=True)
        yield Sample(from_numpy(scene.image), path.name, index + 1, instances, str(path))


def _as_shape(annotation: Annotation, image_size: tuple[int, int]) -> Annotation:
    """Give an annotation the Labelme shape of its outline, cut at the image's border."""
    outline = clip_polygon(annotation.polygons[0], image_size)
    shape: dict[str, Any] = {
        "label": annotation.label,
        "points": [[round(x, 2), round(y, 2)] for x, y in outline.tolist()],
        "group_id": None,
        "description": "",
        "shape_type": "polygon",
        "flags": {},
        "mask": None,
    }
    return replace(annotation, raw=(shape,))
