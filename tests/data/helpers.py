"""Small files and masks for the tests of the data package."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kemr_lightning.core.instances import Instances, Patch

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


def write_labelme_file(
    folder: Path,
    stem: str = "one",
    shapes: list[dict[str, Any]] | None = None,
    image: np.ndarray | None = None,
    **changes: Any,
) -> Path:
    """A PNG (60 wide, 40 high unless given) and its JSON; ``changes`` replace keys, `REMOVE` removes them."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.full((40, 60), 90, dtype=np.uint8) if image is None else image
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
