"""Synthetic metaphases as folders of image files with annotations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from kemr_lightning.core import rle
from kemr_lightning.core.errors import SettingError
from kemr_lightning.data.annotation import Annotation, annotation_patch
from kemr_lightning.data.annotation_format import WriteOptions
from kemr_lightning.data.formats import DEFAULT, format_named
from kemr_lightning.data.synthetic.dataset import Split, SyntheticDataset
from kemr_lightning.data.synthetic.settings import Metaphase, MetaphaseSettings
from kemr_lightning.data.warp import clip_polygon


def write_synthetic_folder(
    root: str | Path,
    train: int = 8,
    val: int = 2,
    test: int = 2,
    format: str = DEFAULT,
    settings: MetaphaseSettings | None = None,
    seed: int = 0,
    label_map: str | None = "single",
) -> Path:
    """Write synthetic metaphases as a data folder: ``train/``, ``val/`` and ``test/``, each with PNG images.

    Formats that keep bitmaps get the exact masks (COCO: RLE), others get outlines (Labelme: the chromosome's
    own outline if it gives exactly its mask, else one traced around the mask). Image ``k`` is the same however many are
    written, as in `SyntheticDataset`.

    Args:
        root: The folder. It is created if need be; files of the same names are replaced.
        train: Number of training images; a part without images is not written.
        val: Number of validation images.
        test: Number of test images.
        format: Name of the annotation format, see `kemr_lightning.data.formats.FORMATS`.
        settings: See `SyntheticDataset`, as for the following arguments.
        seed: Seed of the images.
        label_map: ``"single"`` for one class, None for 24.

    Returns:
        ``root``.

    Raises:
        UserError: An argument is wrong.
    """
    chosen = format_named(format)
    root = Path(root)
    parts: dict[Split, int] = {"train": train, "val": val, "test": test}
    datasets = {
        split: SyntheticDataset(length, settings, seed, split, label_map)
        for split, length in parts.items()
        if length > 0
    }
    label_names = next((dataset.label_names for dataset in datasets.values()), [])
    writer = chosen.writer(root, label_names, WriteOptions())
    if writer is None:
        raise SettingError("format", format, "can be read but not written", "Choose another format")
    for split, dataset in datasets.items():
        (root / split).mkdir(parents=True, exist_ok=True)
        for index in range(len(dataset)):
            scene = dataset.metaphase(index)
            path = root / dataset.name(index)
            cv2.imwrite(str(path), scene.image)
            annotations = _masks(dataset, scene) if writer.keeps_bitmaps else _outlines(dataset, scene)
            writer.add(split, path, annotations, scene.image_size)
    writer.finish()
    return root


def _masks(dataset: SyntheticDataset, scene: Metaphase) -> list[Annotation]:
    """The chromosomes of a metaphase as exact masks."""
    instances = dataset.instances(scene)
    assert instances.patches is not None
    names = [dataset.label_names[label - 1] for label in instances.labels.tolist()]
    return [Annotation(name, patches=(patch,)) for name, patch in zip(names, instances.patches, strict=True)]


def _outlines(dataset: SyntheticDataset, scene: Metaphase) -> list[Annotation]:
    """The chromosomes of a metaphase as outlines, cut at the image's border; a mask where its outline gives another."""
    size = scene.image_size
    chosen = []
    for outlined, exact in zip(dataset.annotations(scene), _masks(dataset, scene), strict=True):
        drawn = annotation_patch(outlined, size)
        if drawn is not None and rle.encode(drawn, size) == rle.encode(exact.patches[0], size):
            corners = clip_polygon(outlined.polygons[0], size).tolist()
            rounded = np.array([[round(x, 2), round(y, 2)] for x, y in corners])
            chosen.append(replace(outlined, polygons=(rounded,)))
        else:
            chosen.append(replace(exact, score=1.0))  # in a file the score marks traced outlines
    return chosen
